"""The template tags: ``{% load bgtasks %}``."""
