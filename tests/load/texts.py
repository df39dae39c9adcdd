"""What the simulated users and their companions are made of."""

from __future__ import annotations

UTTERANCES = (
    "hey, i just got home and put the kettle on",
    "what did you think about on the way here?",
    "my sister called and we talked for an hour about the garden",
    "i started a new book and the first chapter is lovely",
    "do you remember the song with the piano at the end?",
    "work was long today but the evening is quiet",
    "tell me something small that made you smile",
    "we walked along the river until the lamps came on",
    "i burned the rice again, can you believe it",
    "what would you cook if you had only eggs and bread?",
    "the neighbours have a puppy and it sings at night",
    "i think i want to learn to swim properly this year",
    "do you like rainy mornings or bright ones?",
    "my grandmother used to bake with too much cinnamon",
    "i found an old postcard in a coat pocket",
    "how do you get through a monday?",
    "the train was late and a stranger shared her oranges",
    "i am knitting a scarf and it is already crooked",
    "what is the best part of coming home for you?",
    "i moved my desk to the window and everything is better",
    "a friend asked me to sing at her party, should i?",
    "the market had the first strawberries today",
    "i could not sleep so i counted the cars outside",
    "which season is the kindest, do you think?",
    "i planted basil and it already looks proud of itself",
    "we lost the quiz by one point and laughed all the way home",
    "tell me about a place that you would like to see",
    "the cat sat on my notes and now they are hers",
    "i am thinking of painting the kitchen yellow",
    "what should i say to someone who had a hard week?",
    "i ran five kilometres and my legs are complaining",
    "there was a rainbow over the bus station, imagine that",
)

PERSONA = (
    "You like long walks, warm tea, old songs and hearing about the day of your friend. "
    "You answer in a few short sentences, with kindness and a little humour. "
    "You remember what you were told and ask about it later. "
    "You never hurry anybody, and you are glad about small things. "
    "You grew up near the sea and you still know the names of the winds. "
)
