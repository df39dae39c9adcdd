"""DRY and XTC, two samplers for long conversations, as logits processors of vLLM.

DRY ("don't repeat yourself") lowers the score of tokens that would continue a repetition; XTC
("exclude top choices") now and then takes the likeliest tokens out of the draw. `dry.py` and
`xtc.py` hold the mathematics, `v1.py` and `v2.py` what vLLM's two model runners call, and
`install.py` chooses between those.
"""
