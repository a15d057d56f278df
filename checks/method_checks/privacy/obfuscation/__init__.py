"""Obfuscated images and what an attacker makes of them.

`released` is what leaves the house, `reversal` looks for the image behind it, `matching` finds people in a gallery, `operators` and
`people` are obfuscations and faces of which it is known who can be told apart.
"""
