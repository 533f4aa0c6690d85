"""Older configurations in, with nothing lost on the way, and out again.

    places      where older files lie, and in which order they count
    reading     their text as values, each with its place in the file
    forms       which of the older forms a file has
    names       what backends and parameters were called
    arguments   free arguments of the older app, one by one
    converting  an older value as the setting's own
    meanings    what every key of the older forms meant, and where it belongs now
    sections    the parts of an older file that hold keys of their own
    older_chats, older_records   conversations, lists of models and measured speeds that lie beside
    older_figures   measured speeds that were carried over, for looking back
    plan        what becomes of each value: the lines that are shown, and what is to be written
    planner     all of it put together, as one pure function over files that were read
    backup      byte-identical copies and the manifest that is also the journal
    carrying    writing what was planned, whole or not at all
    undoing     the way back
    service     what the command and the page call
    archive     everything in one file, written and read
    importing   what such a file would change here, and doing it

Plans are pure: they are made from what was read and change nothing.
"""
