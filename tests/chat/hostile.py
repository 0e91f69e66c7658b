"""Chat templates of people who mean harm, and of some who make mistakes."""

from __future__ import annotations

_DOUBLED = (
    "{{% set ns = namespace(x={start}) %}}{{% for i in range(100) %}}"
    "{{% set ns.x = {twice} %}}{{% endfor %}}{{{{ ns.x }}}}"
)

STOPPED = {
    "loops": "{% for x in range(99999) %}" * 3 + "{% endfor %}" * 3,
    "a recursive loop": "{% for x in [1, 2] recursive %}{{ loop([1, 2]) if loop.depth < 60 }}"
    "{% endfor %}",
    "macros that call each other": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}"
    "{% endif %}{% endmacro %}{{ f(60) }}",
    "a macro without an end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a block in itself": "{% block a %}{{ self.a() }}{% endblock %}",
    "texts doubled by ~": _DOUBLED.format(start="'x'", twice="ns.x ~ ns.x"),
    "texts doubled by +": _DOUBLED.format(start="'x'", twice="ns.x + ns.x"),
    "lists in lists": _DOUBLED.format(start="[1]", twice="[ns.x, ns.x]"),
    "tuples in tuples": _DOUBLED.format(start="(1,)", twice="(ns.x, ns.x)"),
    "dictionaries": _DOUBLED.format(start="{}", twice="{1: ns.x, 2: ns.x}"),
    "numbers": _DOUBLED.format(start="3", twice="ns.x * ns.x"),
    "a text repeated": "{{ 'x' * 10**9 }}",
    "a list repeated": "{{ [messages] * 10**9 }}",
    "a power": "{{ 10 ** 9999999 }}",
    "much text in a loop": "{% macro f() %}{% for i in range(99999) %}"
    + "x" * 50_000
    + "{% endfor %}{% endmacro %}{{ f() }}",
    "padding by a filter": "{{ 'x' | center(10000000000) }}",
    "padding by a method": "{{ 'x'.zfill(10000000000) }}",
    "padding by %": "{{ '%9999999999d' % 1 }}",
    "padding by an argument": "{{ '%*d' % (9999999999, 1) }}",
    "padding by format": "{{ '{:9999999999}'.format(1) }}",
    "padding by a field": "{{ '{:{}}'.format(1, 9999999999) }}",
    "joined": "{{ range(99999) | map('string') | join('x' * 99999) }}",
    "joined by a method": "{{ ('x' * 99999).join(range(99999) | map('string')) }}",
    "replaced": "{{ ('x' * 99999) | replace('', 'y' * 99999) }}",
    "replaced by a method": "{{ ('x' * 99999).replace('x', 'y' * 99999) }}",
    "searched from the right": "{{ ('a' * 999999).rfind('b' + 'a' * 499999) }}",
    "compared": "{% set a = 'x' * 999999 %}{% set b = 'x' * 999999 %}"
    "{% for i in range(99999) %}{% if a == b %}{% endif %}{% endfor %}",
    "filled up": "{{ [1] | batch(9999999999, 0) | list }}",
    "sorted": "{{ range(99999) | sort | sort | sort | list }}",
    "added up": "{{ ([[1]] * 9999) | sum(start=[]) }}",
    "a long date": "{{ strftime_now('%c' * 99999) }}",
    "a namespace in itself": "{% set ns = namespace() %}{% set ns.a = [ns, ns] %}{{ ns.a }}",
    "methods of classes": "{{ (5).to_bytes(9999999999, 'big') }}",
    "bytes": "{{ 'x'.encode() }}",
    "classes": "{{ ''.__class__.__mro__ }}",
    "globals": "{{ cycler.__init__.__globals__ }}",
    "attributes in a format": "{{ '{0.__class__.__mro__}'.format(1) }}",
    "names of Python": "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "changed messages": "{{ messages.append(1) }}",
    "other files": "{% include '/etc/passwd' %}",
    "texts by chance": "{{ lipsum(n=99999) }}",
    "division by nothing": "{{ 1 / 0 }}",
}
"""Compile, and are stopped when they are rendered."""

REFUSED = {
    "brackets": "{{ " + "(" * 5000 + ")" * 5000 + " }}",
    "lists": "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "conditions": "{% if x %}" * 900 + "{% endif %}" * 900,
    "blocks of Python": "{% for x in y %}" * 60 + "{% endfor %}" * 60,
    "a long sum": "{{ 1" + " + 1" * 20_000 + " }}",
    "many parts": "{{ a }}" * 15_000,
    "many branches": "{% if a %}" + "{% elif a %}" * 5000 + "{% endif %}",
    "comments without an end": "{# " * 40_000,
    "a hundred megabytes": "x" * 100_000_000,
    "no template": "{% if %}",
    "unknown filters": "{{ 'x' | shout }}",
}
"""Are told when they are opened."""
