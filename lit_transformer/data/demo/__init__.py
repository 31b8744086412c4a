"""The demo corpus: English-German sentence pairs with gold word alignments, made by a small grammar of our own.

    from lit_transformer.data.demo.corpus import demo_pairs

    The cat that sleeps is black.         Die Katze, die schläft, ist schwarz.
    Today the man is opening the door.    Heute macht der Mann die Tür auf.
    The girl does not read a book.        Das Mädchen liest kein Buch.
    The dog barks because it is hungry.   Der Hund bellt, weil er hungrig ist.

The rest of this folder is the grammar, from the words to the corpus:

| module | contents |
|---|---|
| `words` | what a dictionary entry is: a noun, a verb, ... |
| `lexicon`, `verbs` | the entries |
| `selection` | which words go together: cows do not read |
| `grammar` | what a sentence means, independent of its language |
| `clauses`, `sampler` | draw meanings at random, from a seed |
| `english`, `german` | write a meaning in one language |
| `corpus` | the splits, without repetition |
"""
