"""`slic evaluate`: the tables and figures of Huang & Wu (2025), measured and written down.

measure -> records -> tables -> report. A record is what one picture gave; tables are functions of records, and text,
plots and pages functions of tables. Only `run` and `measure` meet the codec.
"""
