"""Introductions of the people who ask, from short lists of names, jobs and places.

A person of this file states no opinion.
"""

from __future__ import annotations

import random

NAMES = (
    "Marta Lindqvist", "Tomas Okafor", "Priya Raman", "Jonas Weber", "Aisha Karim", "Luca Moretti",
    "Hana Suzuki", "Diego Salas", "Nora Byrne", "Pavel Novak", "Grace Mbeki", "Elif Demir",
    "Samuel Osei", "Ines Carvalho", "Mikko Laine", "Rosa Delgado", "Kofi Mensah", "Anya Petrova",
    "Wei Zhang", "Clara Dubois", "Omar Haddad", "Freya Olsen", "Theo Papas", "Lucia Ferrari",
)  # fmt: skip
JOBS = (
    "a bus driver", "a nurse", "a carpenter", "a librarian", "a tax clerk", "a baker",
    "a school cook", "a surveyor", "a piano tuner", "a plumber", "a botanist", "a translator",
    "a farmer", "a dentist", "a postman", "a weaver", "a locksmith", "a lawyer",
)  # fmt: skip
PLACES = (
    "Leeds", "Porto", "Gdansk", "Tampere", "Lyon", "Osaka", "Cork", "Turin", "Accra", "Izmir",
    "Bergen", "Cordoba", "Ghent", "Halifax", "Pune", "Graz", "Split", "Tucson",
)  # fmt: skip


def introductions(rng: random.Random, count: int) -> list[str]:
    """`count` people with different names: for each a sentence or two with age, job and place."""
    return [_introduction(name, rng) for name in rng.sample(NAMES, count)]


def _introduction(name: str, rng: random.Random) -> str:
    job, place, age = rng.choice(JOBS), rng.choice(PLACES), rng.randint(30, 78)
    return rng.choice(
        (
            f"Hello, my name is {name}. I am {age} years old and work as {job} in {place}.",
            f"Hi, {name} here, {job} from {place}, aged {age}.",
            f"Good day. I'm {name}, I'm {age}, and I have been {job} in {place} for years.",
        )
    )
