"""The three ways in which documents merge, as pure functions of the set of what was said.

None of them knows a clinical name: the aggregates say which writes stand for which group, and which entry
corrects which.
"""
