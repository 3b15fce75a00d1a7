"""Creates, describes, mirrors and repairs the topics of a namespace."""
