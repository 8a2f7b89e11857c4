"""The HTTP interface: one blueprint a concern, and what stands in front of them all (:mod:`.gate`)."""
