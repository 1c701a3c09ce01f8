"""``{% watch_url task %}``: the address at which a task is watched."""

from __future__ import annotations

from django import template

from bgtasks.watch.links import watch_url

register = template.Library()
register.simple_tag(watch_url)
