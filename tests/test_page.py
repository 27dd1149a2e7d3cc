"""Every value on a page is text, whatever it is; nothing of it comes from elsewhere."""

import base64
import io
import json
import re

import numpy as np
import pytest
from jinja2 import ChoiceLoader, DictLoader, UndefinedError
from PIL import Image

from seglab.pages import page
from seglab.pages.page import as_json, percent, picture, render

HOSTILE = "</script><img src=x onerror=alert(1)> & \"'\u2028\u2029"


@pytest.fixture
def template(monkeypatch: pytest.MonkeyPatch):
    """`template(text, **values)` renders a page of its own over the base."""
    environment = page._environment()
    pages = environment.loader

    def call(text: str, **values: object) -> str:
        made = environment.overlay(loader=ChoiceLoader([pages, DictLoader({"x": text})]))
        monkeypatch.setattr(page, "_environment", lambda: made)
        return render("x", **values)

    return call


def test_text_is_escaped_wherever_it_stands(template) -> None:
    made = template(
        "{% extends 'base.html.j2' %}{% block title %}{{ t }}{% endblock %}"
        '{% block content %}<p title="{{ t }}">{{ t }}</p>{% endblock %}'
        "{% block script %}<script>const value = {{ t | json }};</script>{% endblock %}",
        t=HOSTILE,
    )
    assert "<img" not in made and made.count("</script>") == 2  # the base's own and the block's
    assert 'title="&lt;/script&gt;&lt;img' in made
    (value,) = re.findall(r"const value = (.*);</script>", made)
    assert json.loads(value) == HOSTILE


def test_an_undefined_name_is_an_error(template) -> None:
    with pytest.raises(UndefinedError, match="'missing' is undefined"):
        template("{{ missing }}")


def test_a_page_loads_nothing(template) -> None:
    made = template("{% extends 'base.html.j2' %}")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', made)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "http://" not in made and "https://" not in made and "@import" not in made


def test_json_is_safe_in_a_script_and_has_no_nan() -> None:
    value = {"a": [float("nan"), np.float32("inf"), np.int64(3)], HOSTILE: np.array([[1.5, np.nan]]), "b": (True, None)}
    text = str(as_json(value))
    assert not set("<>&'\u2028\u2029") & set(text)
    assert json.loads(text) == {"a": [None, None, 3], HOSTILE: [[1.5, None]], "b": [True, None]}


def test_pictures_are_inside_and_label_maps_exact() -> None:
    image = np.zeros((40, 80, 3), np.uint8)
    image[:, ::2] = (209, 73, 91)
    uri = picture(image, lossless=True)
    with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/webp;base64,")))) as back:
        assert (np.asarray(back.convert("RGB")) == image).all()
    for given in (image, Image.fromarray(image)):
        small = picture(given, width=20)
        with Image.open(io.BytesIO(base64.b64decode(small.split(",")[1]))) as back:
            assert back.size == (20, 10)
    assert len(picture(image, width=400)) == len(picture(image))  # never enlarged


def test_percent() -> None:
    assert [percent(0.1234), percent(1, 0), percent(None), percent(float("nan"))] == ["12.3%", "100%", "–", "–"]  # noqa: RUF001
