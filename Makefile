.PHONY: style quality test cards tables docs

style:  ## Formats and mends what ruff can
	ruff check --fix .
	ruff format .

quality:  ## What CI checks beside the tests
	ruff check .
	ruff format --check .

test:
	pytest -n 2

cards:  ## Renders model_cards/examples again
	python -m tests.hub.golden_cards

tables:  ## Fills the tables of README.md and benchmarks/README.md from benchmarks/results
	python benchmarks/tables.py

docs:  ## Builds the guide into build/site; python docs/draw_pictures.py draws its pictures again
	mkdocs build --strict
