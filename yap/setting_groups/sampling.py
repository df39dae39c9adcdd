"""Settings of how replies are drawn."""

from pathlib import Path

from yap.protocol.fields import MAX_BREAKER_CHARS, MAX_BREAKERS
from yap.setting_groups.group import Group
from yap.setting_kinds import Breakers, Flag, number, setting


class SamplingSettings(Group):
    """How replies are drawn: the defaults, and the range each client may choose from."""

    title = "Sampling"

    chat_temperature: float = number(0.8, 0, 2, "", "Temperature; 0 always takes the likeliest.")
    chat_temperature_min: float = number(0, 0, 2, "", "Least temperature a client may ask for.")
    chat_temperature_max: float = number(1.2, 0, 2, "", "Greatest temperature, likewise.")
    chat_top_p: float = number(0.95, 0.01, 1, "", "Share of probability that is drawn from.")
    chat_top_p_min: float = number(0.6, 0.01, 1, "", "Least top_p a client may ask for.")
    chat_top_p_max: float = number(1, 0.01, 1, "", "Greatest top_p, likewise.")
    chat_top_k: int = number(30, 0, 100_000, "tokens", "Likeliest tokens drawn from; 0 is all.")
    chat_top_k_min: int = number(0, 0, 100_000, "tokens", "Least top_k a client may ask for.")
    chat_top_k_max: int = number(60, 0, 100_000, "tokens", "Greatest top_k, likewise.")
    chat_min_p: float = number(
        0, 0, 1, "", "Tokens less likely than this share of the likeliest are not drawn."
    )
    chat_min_p_min: float = number(0, 0, 1, "", "Least min_p a client may ask for.")
    chat_min_p_max: float = number(0.2, 0, 1, "", "Greatest min_p, likewise.")
    chat_repetition_penalty: float = number(
        1, 0.01, 2, "", "Divides the score of tokens seen in prompt or reply; 1 is off."
    )
    chat_repetition_penalty_min: float = number(
        1, 0.01, 2, "", "Least repetition_penalty a client may ask for."
    )
    chat_repetition_penalty_max: float = number(
        1.3, 0.01, 2, "", "Greatest repetition_penalty, likewise."
    )
    chat_presence_penalty: float = number(
        0, -2, 2, "", "Subtracted from the score of tokens already in the reply."
    )
    chat_presence_penalty_min: float = number(
        0, -2, 2, "", "Least presence_penalty a client may ask for."
    )
    chat_presence_penalty_max: float = number(
        0.5, -2, 2, "", "Greatest presence_penalty, likewise."
    )
    chat_frequency_penalty: float = number(
        0, -2, 2, "", "Subtracted from a token's score for each time it is in the reply."
    )
    chat_frequency_penalty_min: float = number(
        0, -2, 2, "", "Least frequency_penalty a client may ask for."
    )
    chat_frequency_penalty_max: float = number(
        0.5, -2, 2, "", "Greatest frequency_penalty, likewise."
    )
    chat_samplers: Flag | None = setting(
        None,
        "Give the chat engine the DRY and XTC samplers. Off, the options below must be off. With "
        "speculative decoding they are left out.",
        allowed="on or off",
        unset="on a CPU, where they are measured; elsewhere if one of the options below is on",
    )
    chat_dry_multiplier: float = number(
        0, 0, 10, "", "Strength of DRY, which keeps replies from repeating themselves; 0 is off."
    )
    chat_dry_multiplier_min: float = number(
        0, 0, 10, "", "Least dry_multiplier a client may ask for."
    )
    chat_dry_multiplier_max: float = number(5, 0, 10, "", "Greatest dry_multiplier, likewise.")
    chat_dry_base: float = number(
        1.75, 1, 4, "", "How much each further token of a repetition adds to DRY's penalty."
    )
    chat_dry_base_min: float = number(1, 1, 4, "", "Least dry_base a client may ask for.")
    chat_dry_base_max: float = number(4, 1, 4, "", "Greatest dry_base, likewise.")
    chat_dry_allowed_length: int = number(
        2, 1, 50, "tokens", "Longest repetition that DRY lets be."
    )
    chat_dry_allowed_length_min: int = number(
        1, 1, 50, "tokens", "Least dry_allowed_length a client may ask for."
    )
    chat_dry_allowed_length_max: int = number(
        20, 1, 50, "tokens", "Greatest dry_allowed_length, likewise."
    )
    chat_dry_range: int = number(
        0, 0, 1_048_576, "tokens", "Newest tokens in which DRY looks for repetitions; 0 is all."
    )
    chat_dry_range_min: int = number(
        0, 0, 1_048_576, "tokens", "Least dry_range a client may ask for."
    )
    chat_dry_range_max: int = number(
        1_048_576, 0, 1_048_576, "tokens", "Greatest dry_range, likewise."
    )
    chat_dry_sequence_breakers: Breakers = setting(
        ("\n", ":", '"', "*"),
        "Texts that end a repetition; of each its last token counts. The chat template's own "
        "tokens always do.",
        allowed=f"a JSON list of at most {MAX_BREAKERS} strings of 1 to {MAX_BREAKER_CHARS} "
        "characters",
    )
    chat_xtc_probability: float = number(
        0, 0, 1, "", "How often XTC excludes the top choices of a token; 0 is off."
    )
    chat_xtc_probability_min: float = number(
        0, 0, 1, "", "Least xtc_probability a client may ask for."
    )
    chat_xtc_probability_max: float = number(1, 0, 1, "", "Greatest xtc_probability, likewise.")
    chat_xtc_threshold: float = number(
        0.1, 0.01, 1, "", "Probability from which XTC counts a token as a top choice."
    )
    chat_xtc_threshold_min: float = number(
        0.05, 0.01, 1, "", "Least xtc_threshold a client may ask for."
    )
    chat_xtc_threshold_max: float = number(1, 0.01, 1, "", "Greatest xtc_threshold, likewise.")
    chat_template_enable_thinking: Flag = setting(
        False, "Passed to the model's chat template as enable_thinking."
    )
    chat_logit_bias_file: Path | None = setting(
        None,
        "JSON object of phrase to bias: -100 bans the phrase, between slashes as a regular "
        "expression; any other number is added to the score of a phrase that is one token.",
        allowed="the path of a file",
        unset="no phrase is banned",
    )
    chat_max_rewinds: int = number(
        16,
        0,
        1000,
        "rewinds",
        "How often a reply is taken back to say something else than a banned phrase; after that "
        "the phrase is left out.",
    )
