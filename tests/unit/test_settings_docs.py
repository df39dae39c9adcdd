"""docs/configuration.md says of every setting what it means and takes."""

import subprocess
import sys

from yap.setting_kinds import ROOT, allowed, bounds, choices, default_text, extra
from yap.settings import FIELDS, GROUPS, Settings, load_settings


def test_every_field_says_what_it_means_and_takes() -> None:
    assert len(FIELDS) == len(Settings.model_fields)
    for name, field in FIELDS.items():
        assert field.description, name
        assert field.description.endswith("."), name
        assert allowed(field), name
        number = bounds(field) is not None
        assert number or choices(field) or field.annotation is bool or "allowed" in extra(field)
        assert default_text(field) or field.default in ((), {}) or "unset" in extra(field), name


def test_a_documented_default_is_the_default() -> None:
    written = {name.upper(): default_text(field) for name, field in FIELDS.items()}
    environ = {name: text for name, text in written.items() if not name.endswith("_MODEL")}
    read = load_settings(environ, serving=False)
    assert read.model_dump() == load_settings({}, serving=False).model_dump()


def test_every_variable_is_in_one_table() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for name in FIELDS:
        assert page.count(f"\n| `{name.upper()}` |") == 1
    for group in GROUPS:
        assert page.count(f"\n## {group.title}\n") == 1


def test_the_documentation_is_current() -> None:
    script = ROOT / "scripts" / "generate_config_docs.py"
    command = [sys.executable, str(script), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
