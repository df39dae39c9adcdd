"""Settings of how much of each input is taken."""

from yap.setting_groups.group import Group
from yap.setting_kinds import number, setting


class BudgetSettings(Group):
    """How much of each input is taken. Tokens are counted by the chat model's tokenizer."""

    title = "Budgets"

    chat_max_out: int = number(150, 1, 32_768, "tokens", "Longest reply.")
    chat_prompt_max_tokens: int = number(
        1650, 1, 1_048_576, "tokens", "Longest chat_prompt (the persona); a longer one is refused."
    )
    history_max_tokens: int = number(
        3000, 0, 1_048_576, "tokens", "History kept for a session; the oldest part goes first."
    )
    user_utt_max_tokens: int = number(
        350, 1, 1_048_576, "tokens", "Longest utterance; the end of a longer one is cut."
    )
    prompt_sanitize_max_chars: int | None = number(
        None,
        1,
        16_777_216,
        "characters",
        "Longest chat_prompt before it is cleaned and counted in tokens.",
        unset="6 for each token of context",
    )
    personality_max_len: int = number(
        20, 1, 200, "characters", "Longest name of a personality or synonym."
    )
    max_personalities: int = number(50, 1, 1000, "names", "Personalities in one start.")
    max_synonyms_per_personality: int = number(
        10, 0, 1000, "synonyms", "Synonyms of one personality."
    )
    screen_prefix_max_chars: int = number(
        30, 1, 500, "characters", "Longest screen prefix, a client's or one of the two below."
    )
    check_screen_prefix: str = setting(
        "MUST CHECK SCREEN:",
        "Put before the utterance when the screen is to be captured, unless the client names its "
        "own.",
        allowed="text of up to SCREEN_PREFIX_MAX_CHARS characters",
    )
    screen_checked_prefix: str = setting(
        "ON THE SCREEN NOW:",
        "Put before what the client saw on the screen, unless it names its own.",
        allowed="text of up to SCREEN_PREFIX_MAX_CHARS characters",
    )
