"""The settings by what they are about, a module for each table of docs/configuration.md.

A setting is declared here and nowhere else: a field named as its variable is in lower case, with
its default, its range or kind (`yap.setting_kinds`) and its meaning.
"""
