"""The trusted side: launch guests, talk with them, and believe nothing that they say."""
