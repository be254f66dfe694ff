"""What builds the site: `pages` writes the pages that are generated, `hooks` are mkdocs' own."""
