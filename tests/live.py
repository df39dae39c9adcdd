"""Talk with a persona. Type while it talks to interrupt it.

In a terminal the first key stops the reply, and the server remembers only what was shown. Lines
from a pipe are said one after the other. /help lists the commands.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

if __package__ in (None, ""):  # run as a script: the project's root is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.client.arguments import Setup, add_prompts, endpoint, parser, setup
from tests.client.background import BackgroundLoop
from tests.client.conversation import TurnRecord
from tests.client.errors import ExitCode, ServerRefusedError
from tests.client.personas import Persona, PersonaFileError, Wardrobe, find_persona, read_persona
from tests.client.places import LIBRARY
from tests.client.run import explain, report, settle
from tests.client.show import Output, TurnView, as_data, milliseconds
from tests.client.terminal import Keyboard
from tests.client.timing import summary
from tests.client.turns import Exchange, Line

EXAMPLES = """\
  TEXT_API_KEY=... python tests/live.py
  python tests/live.py "Good morning!" --persona mira
  python tests/live.py --persona ~/my_persona.md      edit the file while you talk
  printf 'Hi!\\nHow are you?\\n' | python tests/live.py --json"""
TIMES = (
    ("decision", "toolcall_ms"),
    ("first token", "ttft_ms"),
    ("three words", "first_3_words_ms"),
    ("first sentence", "first_sentence_ms"),
    ("all", "total_ms"),
)
MAX_OTHERS = 40  # personalities that may be asked for by voice; a server takes 50


class Quit(Exception):
    """The person has had enough."""


@dataclass(slots=True)
class Chat:
    """A conversation and its commands; those are the methods that begin with `do_`."""

    line: Line
    keyboard: Keyboard
    output: Output
    wardrobe: Wardrobe
    setup: Setup
    said: list[tuple[str, str]] = field(default_factory=list)  # speaker and text
    records: list[TurnRecord] = field(default_factory=list)

    # --- talking ------------------------------------------------------------------------------

    def say(self, utterance: str) -> None:
        """One turn.

        Raises:
            ServerRefusedError: it was not served.
        """
        self._reload()
        others = tuple(self.wardrobe.personas.values())[:MAX_OTHERS]
        start = replace(self.setup, others=others).start(utterance)
        self._turn(utterance, lambda conversation, show: conversation.turn(start, show))
        self._obey()

    def _turn(self, said: str, exchange: Exchange) -> None:
        if not self.keyboard.interactive:
            self.output.labelled("you", said)
        again = self.line.opened
        self.line.open()
        if again and self.line.opened > again:
            self.output.line("The connection was lost; here is a new one.", "dim")
        view = TurnView(self.output, self.setup.persona.title, only_yes=True)
        record = self.line.turn(exchange, view, self.keyboard)
        self.records.append(record)
        self.said += [("you", said), (self.setup.persona.title, record.text[: view.shown])]
        self.output.result({"say": said, "persona": self.setup.persona.name, **as_data(record)})

    def _reload(self) -> None:
        """Take over what was edited since."""
        before = dict(self.wardrobe.problems)
        edited = self.wardrobe.refresh()
        current = self.wardrobe.personas.get(self.setup.persona.name)
        if self.setup.persona.name in edited and current is not None:
            self.setup = self.setup.with_persona(current)
            self.output.line(f"{current.title} was edited; the new text is in use.", "dim")
        for path, problem in self.wardrobe.problems.items():
            if before.get(path) != problem:
                self.output.line(f"{problem}; the last good version stays.", "yellow")

    def _obey(self) -> None:
        """Do what the toolcall asks for."""
        toolcall = self.records[-1].toolcall
        for function in toolcall.raw if toolcall is not None else ():
            if function.name == "take_screenshot":
                self.output.line("It wants to see your screen: /screen what is on it", "dim")
            elif function.name == "switch_personality":
                self._become(function.param or "", self.setup.persona.gender)
            elif function.name == "switch_gender":
                self._become(self.setup.persona.personality, function.param or "")

    def _become(self, personality: str, gender: str) -> None:
        """Switch to the persona that is most like this; the one that talks stays if it is."""
        current = self.setup.persona

        def likeness(persona: Persona) -> tuple[bool, bool, bool]:
            is_it = personality in (persona.personality, *persona.synonyms)
            return is_it, persona.gender == gender, persona == current

        asked_gender = gender != current.gender
        fitting = [
            persona
            for persona in self.wardrobe.personas.values()
            if likeness(persona)[1 if asked_gender else 0]
        ]
        if fitting and (best := max(fitting, key=likeness)) != current:
            self._switch(best)

    def _switch(self, persona: Persona) -> None:
        before, self.setup = self.setup, self.setup.with_persona(persona)
        if not self.records:  # the first `start` says it
            self.output.line(f"You are talking to {persona.title} ({persona.personality}).", "dim")
            return
        conversation = self.line.open()
        ack = self.line.call(
            conversation.change_persona(persona.gender, persona.personality, persona.prompt)
        )
        if not ack.ok:
            self.setup = before
        self.output.line(f"{persona.title} ({persona.personality}): {ack.message}", "dim")

    # --- commands -----------------------------------------------------------------------------

    def command(self, text: str) -> None:
        """Do what a line that begins with / asks for.

        Raises:
            Quit: it was /stop or /quit.
        """
        name, _, rest = text[1:].partition(" ")
        method = getattr(self, f"do_{name}", None)
        if method is None:
            self.output.line(f"There is no /{name}. /help lists what there is.", "yellow")
        else:
            method(rest.strip())

    def do_help(self, _: str) -> None:
        """/help: this list"""
        for name in dir(self):
            if name.startswith("do_"):
                usage, _, meaning = (getattr(self, name).__doc__ or "").partition(": ")
                self.output.labelled(usage.ljust(18), meaning)
        self.output.labelled("any key".ljust(18), "while it talks: stop it, and go on typing")

    def do_list(self, _: str) -> None:
        """/list: the personas"""
        self._reload()
        rows = [
            ["*" if p.name == self.setup.persona.name else "", p.name, p.gender, p.personality]
            for p in self.wardrobe.personas.values()
        ]
        self.output.table(["", "name", "gender", "personality"], rows)

    def do_persona(self, name: str) -> None:
        """/persona NAME: talk to another one, or read a FILE.md"""
        self._reload()
        if name.endswith(".md"):
            self._add(Path(name).expanduser())
            return
        persona = self.wardrobe.personas.get(name.lower())
        if persona is None:
            there = ", ".join(self.wardrobe.personas)
            self.output.line(f"There is no persona {name!r}; there is {there}.", "yellow")
        else:
            self._switch(persona)

    def _add(self, path: Path) -> None:
        try:
            persona = read_persona(path)
        except PersonaFileError as error:
            self.output.line(str(error), "yellow")
            return
        self.wardrobe.sources.append(path)
        self.wardrobe.refresh()
        self._switch(persona)

    def do_screen(self, seen: str) -> None:
        """/screen TEXT: say what is on your screen, as a vision model would"""
        if not seen:
            self.output.line("Say what is on it: /screen a recipe for apple pie", "yellow")
            return
        self._turn(seen, lambda conversation, show: conversation.followup(seen, show))

    def do_history(self, _: str) -> None:
        """/history: what was said"""
        for speaker, text in self.said:
            self.output.labelled(speaker, text)

    def do_new(self, _: str) -> None:
        """/new: forget everything and begin again"""
        self.setup = self.setup.new_session()
        self.said.clear()
        self.records.clear()

    def do_info(self, _: str) -> None:
        """/info: times and tokens of the last turn"""
        if not self.records:
            self.output.line("There was no turn yet.", "dim")
            return
        record = self.records[-1]
        done = record.done
        server = done.timings.model_dump() if done and done.timings else {}
        rows = [
            [label, milliseconds(getattr(record, name)), milliseconds(server.get(name))]
            for label, name in TIMES
        ]
        self.output.table(["", "here", "server"], rows)
        if done and done.usage:
            usage = done.usage
            self.output.line(
                f"{usage.prompt_tokens} prompt tokens, {usage.cached_tokens} of them cached; "
                f"{usage.completion_tokens} in the reply, which ended with {done.finish_reason}"
            )
        self.output.line(
            f"session {self.setup.session_id}, {len(self.records)} turns, persona "
            f"{self.setup.persona.name}, turn {done.turn_id if done else '-'}",
            "dim",
        )

    def do_stats(self, _: str) -> None:
        """/stats: times and tokens of all turns"""
        rows = []
        for label, name in TIMES:
            values = [v for r in self.records if (v := getattr(r, name)) is not None]
            if values:
                rows.append([label, *(f"{v:.0f} ms" for v in summary(values).values())])
        self.output.table(["", "mean", "p50", "p90", "p95"], rows)
        usages = [r.done.usage for r in self.records if r.done and r.done.usage]
        prompt = sum(usage.prompt_tokens for usage in usages)
        cached = sum(usage.cached_tokens for usage in usages)
        share = f" ({cached / prompt:.0%} cached)" if prompt else ""
        self.output.line(
            f"{len(self.records)} turns, {sum(r.cancelled for r in self.records)} stopped; "
            f"{prompt} prompt tokens{share}, "
            f"{sum(usage.completion_tokens for usage in usages)} in replies"
        )

    def do_stop(self, _: str) -> None:
        """/stop: leave (also /quit, Ctrl+D)"""
        raise Quit

    def do_quit(self, _: str) -> None:
        """/quit: leave"""
        raise Quit


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    made = parser(__doc__, EXAMPLES)
    made.add_argument("message", nargs="*", help="what to say first")
    made.add_argument(
        "--persona",
        default="anna",
        metavar="NAME|FILE",
        help="a name in --personas, or a file (default: %(default)s)",
    )
    made.add_argument(
        "--personas",
        type=Path,
        default=LIBRARY,
        metavar="FOLDER",
        help="persona files, re-read when they change (default: prompts/personas)",
    )
    made.add_argument(
        "--history-file",
        type=Path,
        metavar="FILE",
        default=Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
        / "yap"
        / "live_history",
        help="lines that were typed (default: %(default)s)",
    )
    add_prompts(made)
    arguments = made.parse_args(argv)
    sources = [arguments.personas]
    if arguments.persona.endswith(".md"):
        arguments.persona = str(Path(arguments.persona).expanduser())
        sources.append(Path(arguments.persona))
    try:
        arguments.persona = find_persona(arguments.persona, arguments.personas)
    except PersonaFileError as error:
        made.error(str(error))
    arguments.wardrobe = Wardrobe(sources)
    arguments.wardrobe.refresh()
    return arguments


def talk(chat: Chat, first: str, output: Output) -> ExitCode:
    """Read and answer until somebody has had enough."""
    keyboard = chat.keyboard
    prompt = "\x1b[1myou\x1b[0m         " if keyboard.interactive else ""
    line: str | None = first
    while line is not None:
        try:
            _answer(chat, line.strip())
        except Quit:
            break
        except ServerRefusedError as error:
            if not keyboard.interactive:
                return report(error, output)
            output.line(explain(error), "red")
        try:
            line = keyboard.read_line(prompt)
        except KeyboardInterrupt:
            output.line("\nCtrl+D or /stop leaves.", "dim")
            line = ""
    return ExitCode.OK


def _answer(chat: Chat, text: str) -> None:
    if text.startswith("/"):
        chat.command(text)
    elif text:
        chat.say(text)


def call(arguments: argparse.Namespace, output: Output) -> ExitCode:
    """Connect, talk and hang up."""
    keyboard = Keyboard(arguments.history_file)
    with BackgroundLoop() as loop:
        line = Line(loop, endpoint(arguments))
        chat = Chat(line, keyboard, output, arguments.wardrobe, setup(arguments, "live"))
        try:
            line.open()
            _greet(chat)
            return talk(chat, " ".join(arguments.message), output)
        finally:
            keyboard.close()
            line.close()


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = parse_arguments(argv)
    output = Output(arguments.json)
    return settle(lambda: call(arguments, output), output)


def _greet(chat: Chat) -> None:
    if chat.keyboard.interactive:
        persona = chat.setup.persona
        chat.output.line(
            f"You are talking to {persona.title} ({persona.personality}). /help lists the "
            "commands; type while it talks to interrupt.",
            "dim",
        )


if __name__ == "__main__":
    sys.exit(main())
