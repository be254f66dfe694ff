"""Human evaluation: the paper's three-phase study, from the design to the report.

Paper: §5.5, App. G. The rooms: `groups` reads what methods wrote, `design` picks and matches
prompts, `balance` lays out each annotator's screens, `store` keeps everything in one SQLite file,
`blind` is all that an annotator can see and say, `app` serves it, `analysis` and `agreement` turn
votes into numbers, `tables`, `plots` and `page` show them, `simulate` plans a study.
"""
