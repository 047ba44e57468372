"""Language models on the site: what is deployed, who may ask, what was used, which batches are under way."""
