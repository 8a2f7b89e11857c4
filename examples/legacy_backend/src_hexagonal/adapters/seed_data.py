"""Plain tables of textbook science that ``seed`` combines into facts."""

from __future__ import annotations

# How many elements each period of the table holds.
PERIODS = (2, 8, 8, 18, 18, 32, 32)

ELEMENTS = """
Hydrogen:H Helium:He Lithium:Li Beryllium:Be Boron:B Carbon:C Nitrogen:N Oxygen:O Fluorine:F Neon:Ne
Sodium:Na Magnesium:Mg Aluminium:Al Silicon:Si Phosphorus:P Sulfur:S Chlorine:Cl Argon:Ar Potassium:K
Calcium:Ca Scandium:Sc Titanium:Ti Vanadium:V Chromium:Cr Manganese:Mn Iron:Fe Cobalt:Co Nickel:Ni
Copper:Cu Zinc:Zn Gallium:Ga Germanium:Ge Arsenic:As Selenium:Se Bromine:Br Krypton:Kr Rubidium:Rb
Strontium:Sr Yttrium:Y Zirconium:Zr Niobium:Nb Molybdenum:Mo Technetium:Tc Ruthenium:Ru Rhodium:Rh
Palladium:Pd Silver:Ag Cadmium:Cd Indium:In Tin:Sn Antimony:Sb Tellurium:Te Iodine:I Xenon:Xe Caesium:Cs
Barium:Ba Lanthanum:La Cerium:Ce Praseodymium:Pr Neodymium:Nd Promethium:Pm Samarium:Sm Europium:Eu
Gadolinium:Gd Terbium:Tb Dysprosium:Dy Holmium:Ho Erbium:Er Thulium:Tm Ytterbium:Yb Lutetium:Lu Hafnium:Hf
Tantalum:Ta Tungsten:W Rhenium:Re Osmium:Os Iridium:Ir Platinum:Pt Gold:Au Mercury:Hg Thallium:Tl Lead:Pb
Bismuth:Bi Polonium:Po Astatine:At Radon:Rn Francium:Fr Radium:Ra Actinium:Ac Thorium:Th Protactinium:Pa
Uranium:U Neptunium:Np Plutonium:Pu Americium:Am Curium:Cm Berkelium:Bk Californium:Cf Einsteinium:Es
Fermium:Fm Mendelevium:Md Nobelium:No Lawrencium:Lr Rutherfordium:Rf Dubnium:Db Seaborgium:Sg Bohrium:Bh
Hassium:Hs Meitnerium:Mt Darmstadtium:Ds Roentgenium:Rg Copernicium:Cn Nihonium:Nh Flerovium:Fl
Moscovium:Mc Livermorium:Lv Tennessine:Ts Oganesson:Og
"""

NOBLE_GASES = ("Helium", "Neon", "Argon", "Krypton", "Xenon", "Radon")

COMPOUNDS = {
    "Water": "Hydrogen Oxygen",
    "CarbonDioxide": "Carbon Oxygen",
    "Methane": "Carbon Hydrogen",
    "Ammonia": "Nitrogen Hydrogen",
    "SodiumChloride": "Sodium Chlorine",
    "Glucose": "Carbon Hydrogen Oxygen",
    "Ethanol": "Carbon Hydrogen Oxygen",
    "AceticAcid": "Carbon Hydrogen Oxygen",
    "SulfuricAcid": "Hydrogen Sulfur Oxygen",
    "NitricAcid": "Hydrogen Nitrogen Oxygen",
    "HydrochloricAcid": "Hydrogen Chlorine",
    "CalciumCarbonate": "Calcium Carbon Oxygen",
    "SilicaQuartz": "Silicon Oxygen",
    "Hematite": "Iron Oxygen",
    "Pyrite": "Iron Sulfur",
    "Galena": "Lead Sulfur",
    "Cinnabar": "Mercury Sulfur",
    "Malachite": "Copper Carbon Oxygen Hydrogen",
    "Gypsum": "Calcium Sulfur Oxygen Hydrogen",
    "Caffeine": "Carbon Hydrogen Nitrogen Oxygen",
    "Urea": "Carbon Hydrogen Nitrogen Oxygen",
    "Glycine": "Carbon Hydrogen Nitrogen Oxygen",
    "Cysteine": "Carbon Hydrogen Nitrogen Oxygen Sulfur",
    "AdenosineTriphosphate": "Carbon Hydrogen Nitrogen Oxygen Phosphorus",
    "PotassiumNitrate": "Potassium Nitrogen Oxygen",
    "MagnesiumOxide": "Magnesium Oxygen",
    "ZincSulfide": "Zinc Sulfur",
    "TitaniumDioxide": "Titanium Oxygen",
    "Fluorite": "Calcium Fluorine",
    "Corundum": "Aluminium Oxygen",
}

PLANETS = "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune"

MOONS = {
    "Earth": "Moon",
    "Mars": "Phobos Deimos",
    "Jupiter": "Io Europa Ganymede Callisto Amalthea Himalia",
    "Saturn": "Titan Rhea Iapetus Dione Tethys Enceladus Mimas Hyperion Phoebe",
    "Uranus": "Titania Oberon Umbriel Ariel Miranda",
    "Neptune": "Triton Proteus Nereid",
}

EARLIER_TO_LATER = (
    "Cambrian Ordovician Silurian Devonian Carboniferous Permian Triassic Jurassic Cretaceous Paleogene "
    "Neogene Quaternary"
)
LONGER_TO_SHORTER_WAVES = "RadioWave Microwave Infrared VisibleLight Ultraviolet XRay GammaRay"

QUANTITIES = {
    "Force": "Newton",
    "Energy": "Joule",
    "Power": "Watt",
    "Pressure": "Pascal",
    "Frequency": "Hertz",
    "ElectricCharge": "Coulomb",
    "Voltage": "Volt",
    "Resistance": "Ohm",
    "Capacitance": "Farad",
    "Inductance": "Henry",
    "Conductance": "Siemens",
    "MagneticFlux": "Weber",
    "MagneticFluxDensity": "Tesla",
    "Temperature": "Kelvin",
    "Length": "Metre",
    "Mass": "Kilogram",
    "Time": "Second",
    "Current": "Ampere",
    "AmountOfSubstance": "Mole",
    "LuminousIntensity": "Candela",
    "LuminousFlux": "Lumen",
    "Illuminance": "Lux",
    "Radioactivity": "Becquerel",
    "AbsorbedDose": "Gray",
    "CatalyticActivity": "Katal",
}

ORGANISMS = {
    "Mammal": (
        "Wolf Lion Tiger Leopard Cheetah Jaguar Lynx Fox Otter Badger Weasel Bear Raccoon Walrus Elephant "
        "Rhinoceros Giraffe Zebra Horse Donkey Camel Llama Deer Moose Reindeer Antelope Bison Sheep Goat "
        "Cow Pig Hippopotamus Hedgehog Mole Shrew Bat Rabbit Hare Squirrel Beaver Mouse Rat Hamster "
        "Gorilla Chimpanzee Orangutan Gibbon Baboon Lemur Human Kangaroo Koala Wombat Dolphin BlueWhale "
        "SpermWhale Orca Manatee Sloth Armadillo"
    ),
    "Bird": (
        "Eagle Falcon Hawk Owl Raven Crow Magpie Sparrow Finch Robin Blackbird Thrush Swallow Swift "
        "Kingfisher Woodpecker Parrot Pigeon Dove Stork Heron Crane Swan Goose Duck Pelican Albatross "
        "Gull Penguin Ostrich Emu Kiwi Flamingo Pheasant Peacock Hummingbird Cuckoo Nightingale Starling "
        "Wren"
    ),
    "Reptile": (
        "Crocodile Alligator Caiman Gharial Cobra Python Anaconda Viper Rattlesnake Iguana Gecko "
        "Chameleon Skink Monitor KomodoDragon SeaTurtle Tortoise Terrapin Tuatara Adder"
    ),
    "Amphibian": "Frog Toad Salamander Newt Axolotl Caecilian Bullfrog TreeFrog Olm FireSalamander",
    "BonyFish": (
        "Salmon Trout Carp Pike Perch Cod Herring Tuna Mackerel Sardine Anchovy Eel Catfish Sturgeon "
        "Halibut Plaice Sole Swordfish Seahorse Clownfish Piranha Goldfish Zebrafish Haddock Barracuda"
    ),
    "Insect": (
        "Ant Bee Wasp Hornet Butterfly Moth Beetle Ladybird Dragonfly Damselfly Grasshopper Cricket "
        "Locust Cockroach Termite Mantis Fly Mosquito Midge Flea Louse Aphid Cicada Earwig Mayfly "
        "Lacewing Firefly Weevil"
    ),
    "Spider": "Tarantula BlackWidow WolfSpider JumpingSpider OrbWeaver CrabSpider TrapdoorSpider RaftSpider",
    "FloweringPlant": (
        "Oak Beech Birch Maple Ash Elm Willow Poplar Lime Chestnut Walnut Apple Pear Cherry Plum Peach "
        "Rose Strawberry Raspberry Bean Pea Lentil Clover Sunflower Daisy Dandelion Lettuce Potato Tomato "
        "Pepper Tobacco Wheat Barley Rye Oat Rice Maize Lily Tulip Orchid Cotton Olive Lavender Mint Sage "
        "Basil Buttercup Poppy"
    ),
    "Conifer": "Pine Spruce Fir Larch Cedar Juniper Cypress Yew Sequoia Hemlock",
    "Fungus": (
        "Chanterelle Porcini Champignon FlyAgaric Morel Truffle BakersYeast Penicillium Aspergillus Puffball"
    ),
}

_ANIMAL = [("IsA", "Animal"), ("IsA", "Eukaryote"), ("FeedsAs", "Heterotroph")]
_VERTEBRATE = [*_ANIMAL, ("IsA", "Vertebrate"), ("HasPart", "Backbone")]
_PLANT = [("IsA", "Plant"), ("IsA", "Eukaryote"), ("FeedsAs", "Autotroph"), ("Performs", "Photosynthesis")]

TRAITS = {
    "Mammal": [*_VERTEBRATE, ("HasProperty", "WarmBlooded"), ("FeedsItsYoungWith", "Milk")],
    "Bird": [*_VERTEBRATE, ("HasProperty", "WarmBlooded"), ("HasPart", "Feathers"), ("Lays", "Eggs")],
    "Reptile": [*_VERTEBRATE, ("HasProperty", "ColdBlooded"), ("HasPart", "Scales")],
    "Amphibian": [*_VERTEBRATE, ("HasProperty", "ColdBlooded")],
    "BonyFish": [*_VERTEBRATE, ("HasPart", "Gills"), ("LivesIn", "Water")],
    "Insect": [*_ANIMAL, ("IsA", "Arthropod"), ("HasNumberOfLegs", "6"), ("HasPart", "Antennae")],
    "Spider": [*_ANIMAL, ("IsA", "Arthropod"), ("HasNumberOfLegs", "8"), ("Produces", "Silk")],
    "FloweringPlant": [*_PLANT, ("Produces", "Flowers"), ("Produces", "Seeds")],
    "Conifer": [*_PLANT, ("Produces", "Cones"), ("Produces", "Seeds")],
    "Fungus": [("IsA", "Eukaryote"), ("FeedsAs", "Heterotroph"), ("HasPart", "ChitinousCellWall")],
}
