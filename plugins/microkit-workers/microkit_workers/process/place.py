"""Whether this process is a child: there handlers run where they are."""

inside = False
