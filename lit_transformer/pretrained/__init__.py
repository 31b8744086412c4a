"""Models of others: folders in Hugging Face's layout that other programs wrote.

Only this room knows the names that other programs have for settings and weights.
"""
