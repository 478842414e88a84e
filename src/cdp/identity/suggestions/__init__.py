"""Suggestions: people who may be one, found by comparison and decided by somebody.

``candidate`` makes of a person what is compared, ``model`` says how, ``match_engine`` carries it
out beside everything else, ``queue_store`` keeps what came of it, ``decide_store`` what people made
of that.
"""
