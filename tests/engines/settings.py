"""Settings of Spark for sessions that run for a short time."""

from __future__ import annotations

JAVA_OPTIONS = (
    "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData "
    "-XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
)

SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.default.parallelism": "2",
    "spark.sql.shuffle.partitions": "2",
    "spark.driver.memory": "1g",
    "spark.driver.extraJavaOptions": f"{JAVA_OPTIONS} -Xms1g -Xmn500m",
    "spark.connect.grpc.binding.port": "0",
    # Compiling the code of a plan takes longer than running it on a few rows.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    # Each sort allocates a page, of 16 MB by default.
    "spark.buffer.pageSize": "256k",
    # The plans of 1000 queries are kept as text and as graphs otherwise.
    "spark.sql.ui.retainedExecutions": "1",
    "spark.sql.ui.explainMode": "simple",
    # Adaptive execution plans a query again after each stage. `test_all_kinds_of_views_and_ages`, progress,
    # Spark Connect and separate executors run with it, as it is by default.
    "spark.sql.adaptive.enabled": "false",
}
