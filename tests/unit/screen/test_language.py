"""English is never refused, however short or odd; clear text in other languages is."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from models.training.screen.grammar import expand, load_families, load_lexicon, tidy
from models.training.screen.probe import load_probe
from yap.screen import language as module
from yap.screen.language import MAX_CHARS, LanguageGate

SHORT = (
    """
look|wow|nice|hey|bro|omg no way|lol ok|k|brb|no cap fr fr|gg ez noob|sheesh|wassup|screenshot plz
ha ha ha|la la la la la|na na na hey hey goodbye|ba dum tss|no no no no|oh my my|heyyyyy|noooooo
uh huh|hmm|zzz|pfft|yo mama|u there|i c u|y tho|who dat|man man man|am i in|is it on
""".strip()
    .replace("\n", "|")
    .split("|")
)
TYPOS = (
    """
taek a screnshot rn|tak a screensho|wat dis|wats dis bttn do|cn y rd ths|hw r y|im so tierd
il show u latr|idk wat 2 do|dis gon b gud|plz lk @ dis|i wil tak a pic tomoro|wer do u live
tihs error, waht si it|hlp me im bord|u r so funy|ook at this|t4ke a scr33nsh0t|TAKE A SCREENSHOT
""".strip()
    .replace("\n", "|")
    .split("|")
)
NAMES = (
    """
los angeles or san francisco?|rio de janeiro, brazil|leonardo da vinci|ludwig van beethoven
maria garcia lopez|javier hernandez de la cruz|nguyen van minh|lana del rey|rammstein du hast
harry, ron, hermione|pikachu charizard bulbasaur|spaghetti alla carbonara|pad thai, pho, or ramen
lorem ipsum dolor sit amet|hakuna matata|wingardium leviosa|björk|zoë and chloë|mötley crüe
""".strip()
    .replace("\n", "|")
    .split("|")
)
FOREIGN_IN_ENGLISH = (
    """
what does 'bonjour mes amis' mean on my screen?|what does "je ne sais quoi" mean
how do you say "me gusta el cafe con leche" in english|mi casa es su casa, as they say
it says "bitte nicht stören" on my screen, what is that?|my boss said что это and left
what does スクリーンショットを撮って mean?|this says 안녕하세요 잘 지냈어요, can you read it?
señora lópez taught me to dance|i ordered crème brûlée and a café au lait|c'est la vie i guess
hasta la vista baby|por que no both|feliz navidad everybody|el niño is coming back|bon voyage, mate
bitte take a screenshot|take a screenshot, por favor|yaar look at my screen na|amigo, check this out
naïve résumé façade|über late, sorry|bonjour|gracias amigo|adios amigos, see you
""".strip()
    .replace("\n", "|")
    .split("|")
)
NO_LANGUAGE = [
    "",
    " ",
    "?",
    "...",
    "1 2 3",
    "12:30",
    "😀😀😀",
    "👍🏽 🎉",
    "\n\t",
    "x = 3 + 4",
    "5 μm",
    "π",
]
FACES = ["ಠ_ಠ", "¯\\_(ツ)_/¯", "(づ｡◕‿‿◕｡)づ", "𝓵𝓸𝓸𝓴 𝓪𝓽 𝓽𝓱𝓲𝓼", "ｌｏｏｋ"]
CODE = [
    "print(x)",
    "def foo(a, b): return a + b",
    "const el = document.getElementById('la')",
    "SELECT * FROM users WHERE id = 1",
    "sudo apt install libssl-dev",
    "git checkout main, then what",
    "https://example.com/a/b?c=d",
]
ENGLISH = [*SHORT, *TYPOS, *NAMES, *FOREIGN_IN_ENGLISH, *NO_LANGUAGE, *FACES, *CODE]

LATIN = (
    """
¿qué hora es en madrid?|necesito ayuda con mi tarea|haz una captura de mi pantalla por favor
me duele mucho la cabeza|quiero que veas este dibujo|je ne comprends pas ce mot
tu peux jeter un œil à mon écran|on va au cinéma ce soir|ma sœur habite à lyon
ich habe hunger und bin müde|kannst du mir bitte helfen|schau mal, was ist das hier
mach bitte einen Screenshot|ho fame e sono stanco|questa foto è bellissima
non capisco cosa vuol dire|estou com muita fome hoje|você pode me ajudar com isso
tira um print da tela pra mim|ik heb honger en ben moe|kun je even naar mijn scherm kijken
wat staat hier?|jestem głodny i zmęczony|czy możesz mi pomóc z zadaniem|zrób zrzut ekranu
ekranıma bakar mısın|çok açım ve yorgunum|bu fotoğraf çok güzel|jag är hungrig och trött
var snäll och titta på min skärm|jeg forstår ikke hva det betyr|hvad står der her
minulla on nälkä ja olen väsynyt|saya lapar dan capek|tolong lihat layar saya
bisa bantu aku kerjakan pr|tôi đói và mệt quá|bạn giúp tôi làm bài tập nhé
můžeš mi pomoct s úkolem|tudnál segíteni a leckében|nu înțeleg ce înseamnă
možeš li mi pomoći sa zadaćom|tumhara naam kya hai|kya haal hai bhai
""".strip()
    .replace("\n", "|")
    .split("|")
)
OTHER_SCRIPTS = (
    """
привет|посмотри на мой экран|κοίτα την οθόνη μου|مرحبا|انظر إلى شاشتي|שלום|מה כתוב כאן?|नमस्ते
मेरी स्क्रीन देखो|สวัสดี|你好|截图|看|画面を見て|ありがとう|안녕|이거 좀 봐줘|გამარჯობა|բարեւ ձեզ|வணக்கம்
నమస్తే|ਸਤ ਸ੍ਰੀ ਅਕਾਲ|ሰላም ነው|ok 截图 给我看|screenshot を撮ってください
""".strip()
    .replace("\n", "|")
    .split("|")
)


@pytest.fixture(scope="module")
def gate() -> LanguageGate:
    return LanguageGate()


@pytest.mark.parametrize("text", ENGLISH)
def test_english_passes(gate: LanguageGate, text: str) -> None:
    assert not gate.refuses(text)


@pytest.mark.parametrize("text", [*LATIN, *OTHER_SCRIPTS])
def test_other_languages_are_refused(gate: LanguageGate, text: str) -> None:
    assert gate.refuses(text)


@pytest.mark.parametrize("text", ["mach bitte einen screenshot", "take a screenshot please"])
def test_capitals_and_typography_do_not_matter(gate: LanguageGate, text: str) -> None:
    answers = {gate.refuses(form) for form in (text, text.upper(), text.title(), f"  {text}!!\n")}
    assert len(answers) == 1
    assert gate.refuses("qu’est-ce que c’est ?") == gate.refuses("qu'est-ce que c'est ?")


def _expansions(count: int, multilingual: bool) -> list[tuple[str, str]]:
    """Lines that the training grammar can say, each with the family it is of."""
    rng, lexicon = Random(5), load_lexicon(training=True)
    templates = [
        (family, template)
        for family in load_families()
        if (family.phrase_class == "multilingual") is multilingual
        for template in family.templates
    ]
    lines: list[tuple[str, str]] = []
    while len(lines) < count:
        family, template = rng.choice(templates)
        text = expand(template.body, lexicon, rng)
        lines += [(tidy(line), family.name) for line in text.split("//")]
    return lines


def test_no_english_line_of_the_training_grammar_is_refused(gate: LanguageGate) -> None:
    assert [line for line, _ in _expansions(4000, False) if gate.refuses(line)] == []


def test_no_english_line_of_the_probe_is_refused(gate: LanguageGate) -> None:
    lines = [
        line
        for probe in load_probe()
        if probe.phrase_class != "multilingual"
        for line in probe.lines
    ]
    assert lines
    assert [line for line in lines if gate.refuses(line)] == []


def test_nine_in_ten_foreign_lines_of_the_training_grammar_are_refused(gate: LanguageGate) -> None:
    codes = set("ar de es fr hi it ja ko nl pl pt ru sv tr uk vi zh".split())
    lines = {
        line
        for line, family in _expansions(4000, True)
        if family.split("_")[0] in codes and len(line.split()) >= 3
    }
    assert len(lines) > 100
    assert sum(map(gate.refuses, lines)) >= 0.9 * len(lines)


def test_only_the_start_of_a_huge_text_is_read(gate: LanguageGate) -> None:
    english = "what do you think of this? " * (MAX_CHARS // 20)
    assert not gate.refuses(english + "я не понимаю " * 10_000)
    assert gate.refuses("я не понимаю " * 100_000)


def test_no_word_speaks_for_two_sides() -> None:
    lists = [module._ENGLISH, module._ENGLISH_TOO, module._FOREIGN, module._FOREIGN_TOO]
    assert len(frozenset[str]().union(*lists)) == sum(map(len, lists))


def test_threads_may_share_a_gate(gate: LanguageGate) -> None:
    texts = [*ENGLISH, *LATIN, *OTHER_SCRIPTS] * 5
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(gate.refuses, texts)) == [gate.refuses(text) for text in texts]


@pytest.mark.parametrize(
    "text",
    [
        "can you look at the third line of this table for me? " * 35,  # 350 tokens and more
        "puedes mirar la tercera línea de esta tabla por favor? " * 35,
        "你能看到我的屏幕吗 " * 200,
        "a " * 1000,
    ],
)
def test_a_call_takes_under_a_millisecond(gate: LanguageGate, text: str) -> None:
    took = []
    for _ in range(200):
        start = time.thread_time()  # what other processes do does not count
        gate.refuses(text)
        took.append(time.thread_time() - start)
    assert statistics.median(took) < 0.001


_MEASURE_MEMORY = """
from pathlib import Path
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
before = resident()
from yap.screen.language import LanguageGate
gate = LanguageGate()
for n in range(500):
    gate.refuses(f"puedes mirar mi pantalla {n} por favor")
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_it_is_small() -> None:
    command = [sys.executable, "-c", _MEASURE_MEMORY]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert int(done.stdout) < 60e6
