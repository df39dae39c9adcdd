"""How long the chat model's context is, and how it is shared out."""

from __future__ import annotations

from yap.chat.prompt import Budgets
from yap.chat.tuning.decisions import Decision
from yap.chat.tuning.model_facts import ModelFacts
from yap.errors import StartupError
from yap.settings import Settings


def context_length(settings: Settings, facts: ModelFacts) -> Decision:
    """The context to ask for: what the settings want, as far as the model goes.

    Raises:
        StartupError: CHAT_MAX_LEN is more than the model was made for.
    """
    name, wanted, longest = "max_model_len", settings.chat_max_len_wanted, facts.longest
    if longest is not None and wanted > longest:
        if settings.chat_max_len is not None:
            raise StartupError(
                f"CHAT_MAX_LEN={wanted} is more than the {longest} tokens that the chat model was "
                "made for."
            )
        why = f"The model was made for no more; the budgets want {wanted} and are scaled down."
        return Decision(name, longest, why)
    if settings.chat_max_len is not None:
        return Decision(name, wanted, "Set by CHAT_MAX_LEN.")
    why = "Holds the budgets of persona, history, utterance and reply, and room for the template."
    return Decision(name, wanted, why)


def budgets(settings: Settings, context: int) -> Budgets:
    """The settings' budgets; those for input are scaled down where the context is smaller."""
    share = min(1.0, context / settings.chat_max_len_wanted)
    return Budgets(
        context=context,
        prompt=int(settings.chat_prompt_max_tokens * share),
        history=int(settings.history_max_tokens * share),
        utterance=int(settings.user_utt_max_tokens * share),
        output=settings.chat_max_out,
    )
