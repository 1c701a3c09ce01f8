"""The ways of doing slow work: views as one would write them. The lab shows their code."""
