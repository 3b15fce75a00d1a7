"""What is on the menu, and how long each wait may last."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from perdure.errors import Failure


@dataclass(frozen=True)
class Product:
    id: str
    name: str
    cents: int
    about: str


PRODUCTS: Final = {
    product.id: product
    for product in (
        Product("swordfish", "Swordfish", 3500, "Grilled over oak, with lemon and capers"),
        Product("burrata", "Burrata", 2000, "Cream-filled, with tomatoes and basil"),
        Product("potato", "Potato", 1500, "Baked in its jacket, with butter and chives"),
        Product("poke", "Poke", 2000, "Tuna, avocado and edamame over rice"),
    )
}

# For a pick-up, for a delivery, and before asking how it was. Read here, once, at import: workflow
# code may not look at the environment, because a replay has to see what the first execution saw.
WAIT: Final = os.environ.get("FOOD_WAIT", "1 minute")


def find(product_id: str) -> Product:
    product = PRODUCTS.get(product_id)
    if product is None:
        raise Failure(f"There is no {product_id!r} on the menu: choose one of {', '.join(PRODUCTS)}.")
    return product
