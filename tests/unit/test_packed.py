"""In a Bento the service serves what is packed, unless the environment names something else."""

import json
from pathlib import Path

import pytest

from yap import packed
from yap.packed import Packed
from yap.settings import Settings, SettingsError, load_settings

KEY = {"TEXT_API_KEY": "a-key-for-tests"}
CHAT, TOOL = "chat-model:0123abcd", "classifier:4567ef01"


def bento(folder: Path, mode: str, **models: str) -> Packed:
    """What a Bento of this mode tells of itself, with its models as an image has them."""
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "packed.json").write_text(json.dumps({"mode": mode, **models}))
    for tag in models.values():
        place = folder / "models" / tag.replace(":", "/")
        place.mkdir(parents=True)
        (place / "config.json").write_text("{}")
    found = packed.read(folder / "src")
    assert found is not None
    return found


def load(carried: Packed, **variables: str) -> Settings:
    return load_settings(KEY | variables, packed=carried)


def problem(carried: Packed, **variables: str) -> str:
    with pytest.raises(SettingsError) as raised:
        load(carried, **variables)
    (sentence,) = raised.value.problems
    return sentence


def test_a_checkout_packs_nothing(tmp_path: Path) -> None:
    assert packed.read(tmp_path) is None
    assert packed.read() is None
    assert packed.environment() == []


def test_what_is_packed_is_served(tmp_path: Path) -> None:
    settings = load(bento(tmp_path, "both", chat_model=CHAT, tool_model=TOOL))
    assert settings.deploy_models == "both"
    assert settings.chat_model == str(tmp_path / "models" / "chat-model" / "0123abcd")
    assert settings.tool_model == str(tmp_path / "models" / "classifier" / "4567ef01")


def test_models_outside_an_image_are_in_bentomls_store(tmp_path: Path) -> None:
    from bentoml._internal.configuration.containers import BentoMLContainer

    carried = Packed("chat", {"chat_model": CHAT}, tmp_path / "models")
    store = Path(BentoMLContainer.model_store_dir.get())
    assert carried.defaults() == {
        "deploy_models": "chat",
        "chat_model": str(store / "chat-model" / "0123abcd"),
    }


def test_the_environment_goes_before_what_is_packed(tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "config.json").write_text("{}")
    carried = bento(tmp_path / "bento", "both", chat_model=CHAT, tool_model=TOOL)
    settings = load(carried, CHAT_MODEL=str(mounted), DEPLOY_MODELS="chat")
    assert settings.chat_model == str(mounted)
    assert settings.deploy_models == "chat"
    assert load(carried, CHAT_MODEL="org/other").chat_model == "org/other"


@pytest.mark.parametrize(
    ("carried", "asked", "lacking"),
    [
        ("chat", "tool", "screen classifier"),
        ("chat", "both", "screen classifier"),
        ("tool", "chat", "chat model"),
        ("tool", "both", "chat model"),
    ],
)
def test_a_mode_that_is_not_packed_is_refused(
    carried: str, asked: str, lacking: str, tmp_path: Path
) -> None:
    name, tag = ("chat_model", CHAT) if carried == "chat" else ("tool_model", TOOL)
    found = bento(tmp_path, carried, **{name: tag})
    assert problem(found, DEPLOY_MODELS=asked).startswith(
        f"DEPLOY_MODELS={asked} needs the {lacking}, which this Bento does not carry (it was built "
        f"for {carried}): "
    )


def test_a_model_that_is_named_makes_up_for_one_that_is_not_packed(tmp_path: Path) -> None:
    carried = bento(tmp_path, "chat", chat_model=CHAT)
    settings = load(carried, DEPLOY_MODELS="both", TOOL_MODEL="org/classifier")
    assert settings.tool_enabled
    assert settings.tool_model == "org/classifier"


def test_a_tool_may_ask_for_settings_of_any_mode(tmp_path: Path) -> None:
    carried = bento(tmp_path, "chat", chat_model=CHAT)
    assert load_settings({"DEPLOY_MODELS": "tool"}, serving=False, packed=carried).tool_enabled
