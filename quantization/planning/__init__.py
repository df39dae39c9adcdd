"""What is made of a model, and why: `plan.plan` puts together recipe, estimates and verdict."""
