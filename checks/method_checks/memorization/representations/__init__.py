"""What a representation tells about the part of an image that it was not shown.

`neighbours` names the foreground of a crop from the public images whose representations are nearest, `correlation` does it without the
encoder under check, `controls` are encoders of which it is known what they kept.
"""
