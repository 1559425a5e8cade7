"""Stores, runs and heads are handed on: to a folder, a bucket or a repository of the Hugging Face hub.

kinds.py           what can be handed on, and what each kind's files are called
share_list.py      the list of what is at a place, which comes last
places.py          a folder or a bucket as a place
hub.py             a repository of the hub as a place
moving.py          push and pull, the same way for every kind
card.py            the card, for people
stores.py          the kind `store`
share_commands.py  `uml cache push` and `uml cache pull`
"""
