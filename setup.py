"""What pyproject.toml can't say beside a search for packages: recipes/ is installed inside hf_genkit, as its data."""

from setuptools import find_packages, setup


setup(
    packages=[*find_packages(include=["hf_genkit*"]), "hf_genkit.recipes"],
    package_dir={"hf_genkit.recipes": "recipes"},
    py_modules=["hf_genkit_cli"],
    package_data={"hf_genkit": ["hub/templates/*", "report/templates/*"], "hf_genkit.recipes": ["*/*.yaml"]},
)
