#!/bin/sh
# Run both examples, from YAML to typed features. `make quickstart` runs this from the project folder.
set -eu
unset FEATUREKIT_REPO

say() { printf '\n\033[1m%s\033[0m\n' "$1"; }
run() { printf '\n$ %s\n' "$*"; "$@"; }
push() { printf "\n$ echo '%s' | featurekit stream push %s\n" "$2" "$1"; echo "$2" | featurekit stream push "$1"; }
show() { printf '\n$ cat %s\n' "$1"; cat "$1"; }
[ -t 1 ] || say() { printf '\n%s\n' "$1"; }

say "1. Fraud: batch features of a user from Parquet, stream features from events"
show examples/fraud/features/user.yaml
run python examples/fraud/generate.py 1000
run featurekit apply --yes
run featurekit materialize
run featurekit get fraud_v1 --entity user_id=u0001
push user_activity '{"user_id": "u0001", "tx_count_5m": 3}'
run featurekit get user_profile:tx_count_7d user_activity:tx_count_5m \
  --entity user_id=u0001 --entity user_id=u9999

say "2. Computed features: raw transactions over windows, and a new one beside what is usual"
show examples/fraud/features/transactions.yaml
run python examples/fraud/simulate.py --users 5 --per-tick 5 --ticks 4 --interval 0.2
run featurekit stream run user_tx --once
run featurekit get user_tx tx_risk --entity user_id=u0001 --request amount=200 --request ip_country=SE

say "3. Flights: features of planes, routes and airports from 336,776 real flights, by SQL"
run cd examples/flights
run python prepare.py
run featurekit apply --yes
run featurekit materialize
run featurekit get delay_v1 --entity tailnum=N516JB,origin=JFK,dest=LAX

say "4. The same from Python"
show read.py
run python read.py

say "5. A training set of all flights, with what was known when each should leave, and a model"
run featurekit training-set delay_v1 --labels data/labels.parquet --output data/train --overwrite
run python train.py
run python predict.py

say "Done. Each example runs its own Valkey on a Unix socket in its .featurekit folder."
echo "Explore:       . .venv/bin/activate; featurekit inspect user u0001; featurekit status"
echo "Live demo:     make demo"
echo "Clean up:      make clean"
echo "Next:          docs/tutorial.md, docs/training.md"
