"""The demo chat model's data: deterministic, well formed, and apart from the held-out prompts."""

from __future__ import annotations

import json
import re
from random import Random

import pytest

from models.training.chat.data import Encoder, conversations, stream_batches
from models.training.chat.dialogue import CHECK_PREFIX, Composer, Conversation, Message
from models.training.chat.evaluate import read_held_out
from models.training.chat.grammar import GrammarError, parse_template, sentence_case, tidy
from models.training.chat.layouts import as_json, labelled, sheet
from models.training.chat.metrics import contains, distinct_2, name_probes, recall_probes
from models.training.chat.template import CHAT_TEMPLATE, END, SPECIAL_TOKENS, START, render
from models.training.chat.tokenizer import train_tokenizer, wrap
from models.training.chat.train import lr_scale
from models.training.chat.words import invent_name, is_held_out

MARKERS = re.compile(r"<\||[<>{}]|\b(?:User|Assistant|System):")


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer()


@pytest.fixture(scope="module")
def made(composer: Composer) -> list[Conversation]:
    return conversations(composer, seed=0, index=0, count=800)


@pytest.fixture(scope="module")
def encoder(made: list[Conversation]) -> Encoder:
    return Encoder(train_tokenizer((render(c.messages) for c in made[:200]), vocab_size=800))


def texts(made: list[Conversation], role: str) -> list[str]:
    return [m.content for c in made for m in c.messages if m.role == role]


def test_the_same_seed_gives_the_same_conversations(
    composer: Composer, made: list[Conversation]
) -> None:
    again = conversations(Composer(), seed=0, index=0, count=50)
    assert [c.messages for c in again] == [c.messages for c in made[:50]]
    other = conversations(composer, seed=1, index=0, count=50)
    assert [c.messages for c in other] != [c.messages for c in made[:50]]


def test_roles_alternate_and_the_last_message_is_a_reply(made: list[Conversation]) -> None:
    for conversation in made:
        roles = [m.role for m in conversation.messages if m.role != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)


def test_no_role_marker_or_unfilled_slot_in_user_and_assistant_text(
    made: list[Conversation],
) -> None:
    for text in texts(made, "user") + texts(made, "assistant"):
        assert not MARKERS.search(text), text


def test_replies_are_short_speakable_and_varied(made: list[Conversation]) -> None:
    replies = texts(made, "assistant")
    assert max(len(reply) for reply in replies) < 260
    assert all(reply and "*" not in reply and "~" not in reply for reply in replies)
    assert len(set(replies)) > 0.5 * len(replies)


def test_a_name_question_is_answered_with_the_name_of_the_system_prompt() -> None:
    for probe in name_probes(100):
        assert probe.persona.name in probe.messages[0].content
        assert probe.persona.name in probe.messages[-1].content


def test_many_replies_say_the_name_of_the_persona(made: list[Conversation]) -> None:
    named = [c.persona.name in m.content for c in made for m in c.messages if m.role == "assistant"]
    assert 0.15 < sum(named) / len(named) < 0.3


def test_sheets_and_json_prompts_state_every_fact() -> None:
    facts = {"city": "Ghent", "pet_kind": "owl", "pet_name": "Bo", "user": "Ada", "age": "41"}
    for seed in range(300):
        rng = Random(seed)
        rows = labelled(rng, "Quill", ("calm", "kind"), facts)
        data, _ = json.JSONDecoder().raw_decode(as_json(rng, rows))
        for text in (sheet(rng, rows), json.dumps(data)):
            assert all(word in text for word in ("Quill", "Ghent", "Bo", "Ada", "41", "calm"))


def test_no_reply_draws_out_a_letter(made: list[Conversation]) -> None:
    assert not [text for text in texts(made, "assistant") if re.search(r"([a-z])\1\1", text)]


def test_a_wrong_name_is_corrected(composer: Composer) -> None:
    for seed in range(40):
        probe = composer.probe(Random(seed), "identity", "me_not_more")
        assert probe.persona.name in probe.messages[-1].content


def test_a_recall_question_is_answered_with_what_the_user_said() -> None:
    for probe in recall_probes(60):
        said = " ".join(m.content for m in probe.messages[1:-1] if m.role == "user")
        assert contains(said, probe.expected)
        assert contains(probe.messages[-1].content, probe.expected)


def test_held_out_names_never_occur_in_training_personas(made: list[Conversation]) -> None:
    assert not any(is_held_out(c.persona.name.split(" ")[0]) for c in made if c.persona.system)
    assert all(is_held_out(p.persona.name.split(" ")[0]) for p in name_probes(30))


def test_held_out_prompts_are_not_generated(made: list[Conversation]) -> None:
    prompts = read_held_out()
    assert len(prompts) == 40
    generated = {text.lower().strip(" .!?") for text in texts(made, "user")}
    ours = {p.messages[-1].content.lower().strip(" .!?") for p in prompts}
    assert ours & generated <= {"", "lol"}  # the two odd inputs that anybody types


def test_both_screen_prefixes_occur_and_the_check_is_answered_by_looking(
    made: list[Conversation],
) -> None:
    looks = 0
    for conversation in made:
        pairs = zip(conversation.messages, conversation.messages[1:], strict=False)
        for user, reply in pairs:
            if user.role == "user" and user.content.startswith(CHECK_PREFIX) and reply.trained:
                looks += 1
                assert re.search(r"\b(look|looking|see|screen|peek|check)", reply.content.lower())
    assert looks > 30


def test_cut_replies_carry_no_loss(encoder: Encoder) -> None:
    messages = [
        Message("user", "hi"),
        Message("assistant", "Hello, what are", trained=False),
        Message("user", "wait"),
        Message("assistant", "Sure."),
    ]
    conversation = Conversation(messages, Composer().casting.cast(Random(0), length="none"))
    shard = encoder.encode([conversation])
    trained = encoder.tokenizer.decode(shard.tokens[shard.mask].tolist(), skip_special_tokens=False)
    assert trained == f"Sure.{END}"


def test_batches_keep_every_token_and_pad_on_the_right(
    encoder: Encoder, made: list[Conversation]
) -> None:
    shard = encoder.encode(made[:20])
    batches = list(stream_batches(iter([shard]), 1, pad_id=0))
    assert sum(int(batch.mask.sum()) for batch in batches) == int(shard.mask.sum())
    assert all(
        (batch.tokens[:, 0] == encoder.tokenizer.token_to_id(START)).all() for batch in batches
    )


def test_the_chat_template_renders_as_training_does(encoder: Encoder) -> None:
    tokenizer = wrap(encoder.tokenizer, 8192)
    assert tokenizer.chat_template == CHAT_TEMPLATE
    messages = [
        Message("system", "You are Anna."),
        Message("user", " hi\nthere "),
        Message("user", ""),
    ]
    plain = [{"role": m.role, "content": m.content} for m in messages]
    for generate in (False, True):
        text = tokenizer.apply_chat_template(
            plain, tokenize=False, add_generation_prompt=generate, enable_thinking=False
        )
        assert text == render(messages, generate=generate)


def test_special_tokens_are_single_and_skipped_when_decoding(encoder: Encoder) -> None:
    tokenizer = wrap(encoder.tokenizer, 8192)
    ids = tokenizer(render([Message("user", "hi")]))["input_ids"]
    assert [tokenizer.decode([i]) for i in ids if i < len(SPECIAL_TOKENS)] == [START, END]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "user\nhi\n"
    assert tokenizer.eos_token == END


def test_articles_and_sentence_starts_are_repaired() -> None:
    assert tidy("a orange and  a an apple") == "an orange and an apple"
    assert sentence_case("oh. really? yes") == "Oh. Really? Yes"


def test_an_unbalanced_template_is_refused() -> None:
    with pytest.raises(GrammarError):
        parse_template("{a|b")


def test_scores_and_schedule() -> None:
    assert contains("How is biscuit?", "Biscuit") and not contains("How is it?", "Biscuit")
    assert distinct_2(["a b a b"]) == pytest.approx(2 / 3)
    assert lr_scale(0.0, 0, 10) == pytest.approx(0.1)
    assert lr_scale(1.0, 500, 10) == pytest.approx(0.02)
    assert len({invent_name(Random(i)) for i in range(1000)}) > 900
