"""Word lists, and a maker of invented words that look like words."""

import random

NAMES = """Anna Ben Clara David Emma Felix Grace Hugo Ida Jack Kate Leo Maria Noah Olga Paul Quinn Rosa Sam Tom Uma Victor
Wendy Xavier Yara Zoe Adam Bella Carl Diana Eric Fiona George Helen Ivan Julia Karl Laura Max Nina Oscar Petra Ralf Sara
Tim Ursula Vera Will Yusuf Zara Ahmed Bruno Chloe Dana Elif Farid Gina Hana Igor Jana Kofi Lena Mei Nadia Omar Priya
Raj Sven Tara Umar Viola Wang Yuki Zeno Alice Bob Carol Dave Eve Frank Heidi Judy Mallory Peggy Peter Mary John James
Linda Susan Robert Michael Lisa Daniel Lucas Mia Ella Liam Ethan Amir Lucia Pablo Diego Sofia Marta Anton Boris Daria
Greta Henrik Ingrid Jonas Kira Lars Mona Nils Otto Pia""".split()

ANIMALS = """cat dog horse cow pig sheep goat duck goose hen rabbit mouse rat fox wolf bear lion tiger zebra giraffe monkey
elephant camel deer otter seal whale shark dolphin eagle owl robin crow swan parrot penguin frog toad snake lizard
turtle crab bee ant spider moth beetle hamster squirrel badger hedgehog donkey falcon heron""".split()

FRUITS = """apple banana cherry grape lemon lime mango melon orange peach pear plum fig date kiwi papaya apricot coconut
raspberry strawberry blueberry carrot potato tomato onion garlic pepper cabbage spinach celery radish pumpkin bean pea
lentil rice bread butter cheese egg milk honey sugar salt soup cake cookie pie pizza pasta salad coffee tea juice
water""".split()

COLOURS = """red blue green yellow orange purple pink brown black white grey silver gold violet crimson indigo teal
turquoise maroon beige""".split()

OBJECTS = """table chair lamp desk bed sofa door window mirror clock book pen pencil paper bag box bottle cup plate bowl
fork knife spoon pot pan kettle oven towel soap brush comb key lock coin ring watch phone radio camera guitar piano
violin drum flute ball kite doll puzzle card ticket stamp letter basket bucket ladder hammer nail screw saw rope wire
candle match torch umbrella hat coat shirt shoe sock glove scarf belt button needle thread blanket pillow carpet curtain
engine wheel bicycle car bus train boat ship plane rocket bridge tower castle church school market garden forest river
lake ocean island mountain valley desert beach cave field farm village city street road""".split()

VERBS = """walk run jump swim fly sing dance read write draw paint cook bake eat drink sleep wake think learn teach play
work build break fix open close push pull carry throw catch find lose hide seek buy sell give take send bring hold drop
start stop turn move wait listen speak laugh cry smile help ask answer call visit travel drive ride climb fall grow
plant water cut wash clean""".split()

ADJECTIVES = """big small tall short long wide narrow deep high low fast slow hot cold warm cool wet dry clean dirty new
old young early late loud quiet bright dark heavy light soft hard sharp smooth rough sweet sour bitter salty fresh
strong weak rich poor happy sad angry calm brave kind gentle clever simple strange empty full open hidden golden broken
frozen silent lucky curious""".split()

NOUNS = """time year day week month hour minute second morning evening night summer winter spring autumn weather rain snow
wind storm cloud sun moon star sky earth fire stone metal wood glass cotton number letter word sentence question answer
story poem song music film picture colour shape circle square triangle line point corner side middle centre edge end
friend family mother father sister brother child baby teacher doctor nurse driver farmer baker painter singer writer
player king queen prince neighbour stranger money price market shop store bank office hospital station airport hotel
kitchen room house home building floor wall roof stairs computer keyboard screen program network server model language
planet science history nature animal flower tree leaf root seed grass body head face eye ear nose mouth tooth hand arm
leg foot heart blood bone dream idea plan problem reason result example method system power energy speed weight height
length distance world country people person group team game sport race prize party holiday journey adventure treasure
secret promise mistake chance danger peace war law rule order""".split()

COMMON = """about above across after again against almost along already also although always among another any around away
back because become before begin behind believe below beneath beside better between beyond both bottom business but
careful certain change check clear close come common complete consider continue control could course cover cross decide
different difficult direct divide double down during each easy either else enough even ever every exact except expect
explain eye fact famous far feel few final fine first follow force foreign form forward free from front general get good
great half happen have hear hello here himself however hundred important include inside instead interest itself join just
keep know large last later lead leave left less level like little live local look lot love main make many mark matter
maybe mean measure meet member might million mind modern moment more most much must myself name near necessary need never
next nothing notice now object often once only other our outside over own page part pass past pattern perhaps piece place
please position possible practice prepare present pretty private produce proper protect prove provide public put quick
quite ready real receive recent record remain remember repeat reply report rest return right round safe same save say
see seem separate serious serve several shall should show similar since single size some soon sort sound special spell
stand state stay still straight strong study such suddenly suggest support suppose sure surface surprise sweet table tell
than thank that their them then there these thing this thousand through today together tomorrow tonight touch toward
travel trouble true try under understand until upon use useful usual very view voice want watch way wear well what when
where whether which while who whole why will wish with without wonder wrong yesterday yet""".split()

WORDS = sorted(set(w for ws in (ANIMALS, FRUITS, COLOURS, OBJECTS, VERBS, ADJECTIVES, NOUNS, COMMON) for w in ws))

CITIES = """Amsterdam Athens Atlanta Auckland Baghdad Bangkok Barcelona Beijing Berlin Bogota Boston Brussels Budapest Cairo
Calgary Casablanca Chicago Copenhagen Dakar Dallas Delhi Denver Detroit Dubai Dublin Edinburgh Florence Frankfurt Geneva
Glasgow Hamburg Hanoi Havana Helsinki Houston Istanbul Jakarta Kyiv Kyoto Lagos Lima Lisbon London Lyon Madrid Manchester
Manila Melbourne Miami Milan Montreal Moscow Mumbai Munich Nairobi Naples Osaka Oslo Paris Perth Philadelphia Phoenix
Porto Prague Quito Riga Rome Rotterdam Santiago Seattle Seoul Seville Shanghai Singapore Sofia Stockholm Stuttgart Sydney
Taipei Tallinn Tehran Tokyo Toronto Tunis Turin Valencia Vancouver Venice Vienna Warsaw Wellington Zagreb Zurich""".split() + [
    "New York", "Los Angeles", "San Francisco", "Hong Kong", "Mexico City", "Rio de Janeiro", "Cape Town", "Buenos Aires",
    "Kuala Lumpur", "New Delhi", "Tel Aviv", "Las Vegas", "Salt Lake City", "Ho Chi Minh City", "Addis Ababa"]

TIME_ZONES = {
    "Tokyo": "Asia/Tokyo", "London": "Europe/London", "Paris": "Europe/Paris", "Berlin": "Europe/Berlin",
    "Madrid": "Europe/Madrid", "Rome": "Europe/Rome", "Vienna": "Europe/Vienna", "Oslo": "Europe/Oslo",
    "Stockholm": "Europe/Stockholm", "Helsinki": "Europe/Helsinki", "Moscow": "Europe/Moscow", "Cairo": "Africa/Cairo",
    "Lagos": "Africa/Lagos", "Nairobi": "Africa/Nairobi", "Dubai": "Asia/Dubai", "Singapore": "Asia/Singapore",
    "Shanghai": "Asia/Shanghai", "Hong Kong": "Asia/Hong_Kong", "Seoul": "Asia/Seoul", "Sydney": "Australia/Sydney",
    "Melbourne": "Australia/Melbourne", "Auckland": "Pacific/Auckland", "New York": "America/New_York",
    "Chicago": "America/Chicago", "Denver": "America/Denver", "Los Angeles": "America/Los_Angeles",
    "Toronto": "America/Toronto", "Lima": "America/Lima", "Bogota": "America/Bogota", "Bangkok": "Asia/Bangkok"}

MONTHS = """January February March April May June July August September October November December""".split()
LANGUAGES = "French German Spanish Italian Portuguese Dutch Swedish Polish Turkish Japanese Korean Chinese Arabic Greek Russian".split()


def _successors():
    table = {}
    for word in WORDS + [n.lower() for n in NAMES] + [c.lower() for c in CITIES if " " not in c]:
        padded = "^^" + word + "$"
        for i in range(2, len(padded)):
            table.setdefault(padded[i - 2:i], []).append(padded[i])
    return table


_SUCCESSORS = _successors()


def invented(rng: random.Random, shortest: int = 3, longest: int = 9) -> str:
    """A made-up lower-case word, drawn letter by letter from the list's letter triples."""
    while True:
        word, state = "", "^^"
        while len(word) <= longest:
            ch = rng.choice(_SUCCESSORS[state])
            if ch == "$":
                break
            word, state = word + ch, state[1] + ch
        if shortest <= len(word) <= longest:
            return word


def code(rng: random.Random) -> str:
    """A serial number or password: letters, digits, maybe a dash."""
    kind = rng.randrange(5)
    if kind == 0:
        return str(rng.randrange(1000, 10000))
    if kind == 1:
        return "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(2)) + "-" + str(rng.randrange(100, 1000))
    if kind == 2:
        return "".join(rng.choice("abcdefghijkmnpqrstuvwxyz23456789") for _ in range(rng.randrange(4, 9)))
    if kind == 3:
        return str(rng.randrange(10, 100)) + "".join(rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(2)) + str(rng.randrange(10))
    return invented(rng, 4, 8) + str(rng.randrange(10, 100))
