from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition.robots import Rule, read_robots

AT = "https://books.example"


def allowed(text: str, *paths: str) -> list[bool]:
    robots = read_robots(text, "denoise-app")
    return [robots.allows(f"{AT}{path}") for path in paths]


def test_the_longest_pattern_decides() -> None:
    text = "User-agent: *\nDisallow: /files/\nAllow: /files/open/\nDisallow: /files/open/not\n"
    assert allowed(text, "/", "/files/a", "/files/open/a", "/files/open/not.zip", "/files") == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert allowed("User-agent: *\nDisallow: /a\nAllow: /a\n", "/a") == [True]
    assert allowed("User-agent: *\nDisallow: /\n", "", "/a", "/robots.txt") == [False, False, True]
    assert allowed("User-agent: *\nDisallow:\n", "/a") == [True]
    assert allowed("", "/a") == [True]


def test_stars_and_ends_are_understood() -> None:
    text = "User-agent: *\nDisallow: /*.zip$\nDisallow: /*?*page=\nDisallow: /x*y*z\n"
    paths = ("/a.zip", "/a.zip?x", "/a.zip.txt", "/search?key=1&page=2", "/x-y-z", "/xzy", "/z")
    assert allowed(text, *paths) == [False, True, True, False, False, True, True]
    assert allowed("User-agent: *\nDisallow: /a$\n", "/a", "/ab") == [False, True]
    assert allowed("User-agent: *\nDisallow: /a*a$\n", "/a", "/aa") == [True, False]


def test_own_rules_take_the_place_of_those_for_all() -> None:
    text = """\ufeff# who may what
    user-agent: *
    Disallow: /
    Crawl-delay: 9

    User-Agent: Denoise-App/2.0
    user-agent: other
    Disallow: /a   # not this
    crawl-delay: 0.5
    Sitemap: https://books.example/map
    USER-AGENT: denoise-app
    Disallow: /b
    """
    assert allowed(text, "/a", "/b", "/c") == [False, False, True]
    assert read_robots(text, "denoise-app").delay_s == 0.5
    assert read_robots(text, "nobody").delay_s == 9.0
    assert read_robots("Disallow: /\nCrawl-delay: 5", "denoise-app").allows(AT)


def test_one_path_is_one_path_however_it_is_spelt() -> None:
    text = "User-agent: *\nDisallow: /b%C3%BCcher/%7euser\n"
    assert allowed(text, "/bücher/~user", "/b%c3%bccher/%7Euser", "/bucher/~user") == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("delay", ["", "-1", "many", "1e9", "9" * 400, "²"])
def test_a_delay_that_is_none(delay: str) -> None:
    assert read_robots(f"User-agent: *\nCrawl-delay: {delay}", "denoise-app").delay_s == 0.0


@given(st.text(max_size=300), st.text(max_size=50))
def test_any_text_is_borne(text: str, path: str) -> None:
    read_robots(f"User-agent: *\nDisallow: {text}", "denoise-app").allows(f"{AT}/{path}")


def test_no_pattern_takes_long() -> None:
    rule = Rule("/" + "*a" * 900 + "$", False)
    assert not rule.matches("/" + "a" * 100_000 + "b")
