"""Whether this machine, these settings and this database are fit for service: what `jasaweb-rt doctor` says.

Each module looks at one part, changes nothing, and gives findings, each a sentence with its mend.
"""
