"""Makers of tiny, real model files, so that tests open files instead of pretending to."""
