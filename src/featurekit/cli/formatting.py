"""Format numbers, sizes and durations for people."""

from __future__ import annotations

_UNIT_MS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000))
_SIZE_UNITS = ("B", "KB", "MB", "GB", "TB")
_KILO = 1000
_SECOND_MS = 1000
_MINUTE_S = 60
_ONE_DIGIT = 10
_ONE_PERCENT = 0.01


def format_ms(duration_ms: float) -> str:
    """Return a duration in its two largest units, rounded down.

    Examples:
        >>> format_ms(172_799_000), format_ms(59_900), format_ms(900), format_ms(0)
        ('1d 23h', '59s', '0.9s', '0s')
    """
    remaining = int(duration_ms)
    if remaining < _SECOND_MS:
        return f"{remaining / _SECOND_MS:.1g}s" if remaining > 0 else "0s"
    parts: list[str] = []
    for unit, unit_ms in _UNIT_MS:
        number, remaining = divmod(remaining, unit_ms)
        if number or parts:
            parts.append(f"{number}{unit}" if number else "")
    return " ".join(part for part in parts[:2] if part)


def format_percent(share: float) -> str:
    """Return a share in percent; only 0 is 0%, and only 1 is 100%.

    Examples:
        >>> [format_percent(share) for share in (0, 0.003, 0.5, 0.999, 1)]
        ['0%', '<1%', '50%', '>99%', '100%']
    """
    if 0 < share < _ONE_PERCENT:
        return "<1%"
    return ">99%" if 1 - _ONE_PERCENT < share < 1 else f"{share:.0%}"


def format_age(duration_ms: int | None) -> str:
    """Return how long ago something happened.

    Examples:
        >>> format_age(120_000), format_age(200), format_age(None)
        ('2m ago', 'just now', 'never')
    """
    if duration_ms is None:
        return "never"
    return "just now" if duration_ms < _SECOND_MS else f"{format_ms(duration_ms)} ago"


def format_seconds(duration_s: float) -> str:
    """Return an elapsed time, in milliseconds below one second.

    Examples:
        >>> format_seconds(0.0042), format_seconds(3.21), format_seconds(75)
        ('4 ms', '3.2 s', '1m 15s')
    """
    if duration_s < 1:
        return f"{duration_s * 1000:.0f} ms"
    return f"{duration_s:.1f} s" if duration_s < _MINUTE_S else format_ms(duration_s * 1000)


def format_size(size_bytes: float) -> str:
    """Return a size in powers of 1000.

    Examples:
        >>> format_size(812), format_size(4_200), format_size(123_400_000)
        ('812 B', '4.2 KB', '123 MB')
    """
    for unit in _SIZE_UNITS:
        if size_bytes < _KILO or unit == _SIZE_UNITS[-1]:
            break
        size_bytes /= _KILO
    digits = 1 if size_bytes < _ONE_DIGIT and unit != "B" else 0
    return f"{size_bytes:.{digits}f} {unit}"


def format_count(number: float) -> str:
    """Return a number with thousands separators.

    Examples:
        >>> format_count(1234567)
        '1,234,567'
    """
    return f"{number:,.0f}"


def pluralize(number: int, singular: str, plural: str = "") -> str:
    """Return a count with its noun.

    Examples:
        >>> pluralize(1, "view"), pluralize(2, "entity", "entities")
        ('1 view', '2 entities')
    """
    return f"{format_count(number)} {singular if number == 1 else plural or singular + 's'}"
