"""Words: numbers, sizes and spans of time as people read them."""

from __future__ import annotations

_SPANS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000))
_SIZES = ("B", "KB", "MB", "GB", "TB")
_KILO = 1000
_SECOND_MS = 1000
_MINUTE_MS = 60_000
_FEW = 10


def span(duration_ms: float) -> str:
    """A span of time by its two largest units, rounded down.

    Examples:
        >>> span(172_799_000), span(59_900), span(900), span(0)
        ('1d 23h', '59s', '0.9s', '0s')
    """
    left = int(duration_ms)
    if left < _SECOND_MS:
        return f"{left / _SECOND_MS:.1g}s" if left > 0 else "0s"
    pieces: list[str] = []
    for unit, size_ms in _SPANS:
        count, left = divmod(left, size_ms)
        if count or pieces:
            pieces.append(f"{count}{unit}" if count else "")
    return " ".join(piece for piece in pieces[:2] if piece)


def percent(share: float) -> str:
    """A share; 0% is none and 100% is all.

    Examples:
        >>> percent(0), percent(0.003), percent(0.5), percent(0.999), percent(1)
        ('0%', '<1%', '50%', '>99%', '100%')
    """
    if 0 < share < 0.01:  # noqa: PLR2004 - what would be 0% or 100%, and is not
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{share:.0%}"  # noqa: PLR2004 - the same


def ago(duration_ms: int | None) -> str:
    """How long ago something was.

    Examples:
        >>> ago(120_000), ago(200), ago(None)
        ('2m ago', 'just now', 'never')
    """
    if duration_ms is None:
        return "never"
    return "just now" if duration_ms < _SECOND_MS else f"{span(duration_ms)} ago"


def seconds(duration_s: float) -> str:
    """Work time: milliseconds where it was short, else as `span`.

    Examples:
        >>> seconds(0.0042), seconds(3.21), seconds(75)
        ('4 ms', '3.2 s', '1m 15s')
    """
    if duration_s < 1:
        return f"{duration_s * 1000:.0f} ms"
    return f"{duration_s:.1f} s" if duration_s * 1000 < _MINUTE_MS else span(duration_s * 1000)


def size(size_bytes: float) -> str:
    """Bytes, in powers of a thousand.

    Examples:
        >>> size(812), size(4_200), size(123_400_000)
        ('812 B', '4.2 KB', '123 MB')
    """
    for unit in _SIZES:
        if size_bytes < _KILO or unit == _SIZES[-1]:
            break
        size_bytes /= _KILO
    return (
        f"{size_bytes:.1f} {unit}"
        if size_bytes < _FEW and unit != "B"
        else f"{size_bytes:.0f} {unit}"
    )


def count(number: float) -> str:
    """A count, its thousands apart.

    Examples:
        >>> count(1234567)
        '1,234,567'
    """
    return f"{number:,.0f}"


def counted(number: int, one: str, many: str = "") -> str:
    """A count of things.

    Examples:
        >>> counted(1, "view"), counted(2, "entity", "entities")
        ('1 view', '2 entities')
    """
    return f"{count(number)} {one if number == 1 else many or one + 's'}"
