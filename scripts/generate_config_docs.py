"""Write docs/configuration.md from the settings; with --check, fail if it is out of date.

python scripts/generate_config_docs.py [--check]
"""

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pydantic.fields import FieldInfo  # noqa: E402

from scripts.generated import write_or_check  # noqa: E402
from yap.retired_settings import RETIRED  # noqa: E402
from yap.setting_kinds import allowed, bounds, choices, default_text, extra, is_whole  # noqa: E402
from yap.settings import GROUPS, Group, SettingsError, load_settings  # noqa: E402

TARGET = ROOT / "docs" / "configuration.md"

# Wrong in several ways at once, to show how the start answers.
WRONG_ENVIRONMENT = {
    "TEXT_API_KEY": "short",
    "CHAT_MODEL": "org/name",
    "DEPLOY_MODELS": "chat",
    "KV_DTYPE": "int8",
    "CHAT_MAX_LEN": "5025",
    "CHAT_TOP_P": "0.3",
    "WS_IDLE_TIMEOUT_S": "-3",
}

INTRODUCTION = """\
# Configuration

<!-- Written by scripts/generate_config_docs.py from yap/settings.py. Edit those, not this. -->

The service is configured by environment variables and nothing else; it reads no file of them. A
variable that is unset or blank has its default. Flags take `1`, `true`, `yes`, `on` and `0`,
`false`, `no`, `off`; flags and choices may be in any case. Lists are separated by commas.

`TEXT_API_KEY` is the only variable that the service cannot start without.
"""

ERRORS = """\
## When something is wrong

The service does not start, and names every problem at once. With

```sh
{environment}
```

it says

```text
{message}
```

Keys are never shown. A variable that is no longer read, that looks misspelt, or that has no effect
yet does not stop the start; the log then says so.
"""

RETIRED_INTRODUCTION = """\
## Retired and renamed variables

Older deployments may export these. They are not read; the log says what to do for each.

| Variable | Instead |
|---|---|
"""


def main() -> int:
    return write_or_check(TARGET, render(), purpose=__doc__)


def render() -> str:
    """The whole page, as Markdown."""
    groups = "\n".join("\n".join(group_section(group)) for group in GROUPS)
    retired = "\n".join(
        f"| {', '.join(map(code, retired.names))} | {cell(retired.advice)} |" for retired in RETIRED
    )
    return f"{INTRODUCTION}\n{errors_section()}\n{groups}\n{RETIRED_INTRODUCTION}{retired}\n"


def errors_section() -> str:
    """A wrong environment, with the very message that it gives."""
    try:
        load_settings(WRONG_ENVIRONMENT)
    except SettingsError as error:
        environment = "\n".join(
            f"export {name}={value}" for name, value in WRONG_ENVIRONMENT.items()
        )
        return ERRORS.format(environment=environment, message=error)
    raise AssertionError("the example environment is accepted: make it wrong again")


def group_section(group: type[Group]) -> Iterator[str]:
    """A heading, a sentence and a table."""
    fields = group.model_fields
    columns = ["Variable", "Default", "Allowed", "Meaning"]
    yield f"## {group.title}\n"
    yield f"{group.__doc__}\n"
    yield row(columns)
    yield "|---" * len(columns) + "|"
    for name, field in fields.items():
        cells = [code(name.upper()), default_cell(field), allowed_cell(field)]
        cells.append(cell(field.description or ""))
        yield row(cells)
    yield ""


def default_cell(field: FieldInfo) -> str:
    """The default in code, or in words what happens without a value."""
    default, unset = default_text(field), extra(field).get("unset")
    if default:
        return code(default)
    return f"unset: {cell(unset)}" if unset else "empty"


def allowed_cell(field: FieldInfo) -> str:
    """The range, the choices, or the kind of text."""
    span = bounds(field)
    if span:
        unit = extra(field).get("unit", "")
        kind = ", whole" if is_whole(field) else ""
        return f"{span[0]} to {span[1]} {unit}".rstrip() + kind
    if choices(field):
        return ", ".join(map(code, choices(field)))
    return "flag" if field.annotation is bool else cell(allowed(field))


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def code(text: str) -> str:
    return f"`{cell(text)}`"


def cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
