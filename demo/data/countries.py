"""Countries, capitals and continents. A country whose capital is disputed has no entry in CAPITALS."""

AFRICA = """Algeria:Algiers Angola:Luanda Benin:Porto-Novo Botswana:Gaborone Burkina_Faso:Ouagadougou Burundi:Gitega
Cameroon:Yaounde Cape_Verde:Praia Central_African_Republic:Bangui Chad:N'Djamena Comoros:Moroni
Democratic_Republic_of_the_Congo:Kinshasa Djibouti:Djibouti Egypt:Cairo Eritrea:Asmara Eswatini:Mbabane
Ethiopia:Addis_Ababa Gabon:Libreville Gambia:Banjul Ghana:Accra Guinea:Conakry Guinea-Bissau:Bissau
Ivory_Coast:Yamoussoukro Kenya:Nairobi Lesotho:Maseru Liberia:Monrovia Libya:Tripoli Madagascar:Antananarivo
Malawi:Lilongwe Mali:Bamako Mauritania:Nouakchott Mauritius:Port_Louis Morocco:Rabat Mozambique:Maputo
Namibia:Windhoek Niger:Niamey Nigeria:Abuja Republic_of_the_Congo:Brazzaville Rwanda:Kigali
Sao_Tome_and_Principe:Sao_Tome Senegal:Dakar Seychelles:Victoria Sierra_Leone:Freetown Somalia:Mogadishu
South_Sudan:Juba Sudan:Khartoum Tanzania:Dodoma Togo:Lome Tunisia:Tunis Uganda:Kampala Zambia:Lusaka Zimbabwe:Harare"""

ASIA = """Afghanistan:Kabul Armenia:Yerevan Azerbaijan:Baku Bahrain:Manama Bangladesh:Dhaka Bhutan:Thimphu
Brunei:Bandar_Seri_Begawan Cambodia:Phnom_Penh China:Beijing Georgia:Tbilisi India:New_Delhi Indonesia:Jakarta
Iran:Tehran Iraq:Baghdad Japan:Tokyo Jordan:Amman Kazakhstan:Astana Kuwait:Kuwait_City Kyrgyzstan:Bishkek
Laos:Vientiane Lebanon:Beirut Malaysia:Kuala_Lumpur Maldives:Male Mongolia:Ulaanbaatar Myanmar:Naypyidaw
Nepal:Kathmandu North_Korea:Pyongyang Oman:Muscat Pakistan:Islamabad Philippines:Manila Qatar:Doha
Saudi_Arabia:Riyadh Singapore:Singapore South_Korea:Seoul Sri_Lanka:Sri_Jayawardenepura_Kotte Syria:Damascus
Taiwan:Taipei Tajikistan:Dushanbe Thailand:Bangkok Timor-Leste:Dili Turkey:Ankara Turkmenistan:Ashgabat
United_Arab_Emirates:Abu_Dhabi Uzbekistan:Tashkent Vietnam:Hanoi Yemen:Sanaa"""

EUROPE = """Albania:Tirana Andorra:Andorra_la_Vella Austria:Vienna Belarus:Minsk Belgium:Brussels
Bosnia_and_Herzegovina:Sarajevo Bulgaria:Sofia Croatia:Zagreb Cyprus:Nicosia Czech_Republic:Prague
Denmark:Copenhagen Estonia:Tallinn Finland:Helsinki France:Paris Germany:Berlin Greece:Athens Hungary:Budapest
Iceland:Reykjavik Ireland:Dublin Italy:Rome Kosovo:Pristina Latvia:Riga Liechtenstein:Vaduz Lithuania:Vilnius
Luxembourg:Luxembourg Malta:Valletta Moldova:Chisinau Monaco:Monaco Montenegro:Podgorica Netherlands:Amsterdam
North_Macedonia:Skopje Norway:Oslo Poland:Warsaw Portugal:Lisbon Romania:Bucharest Russia:Moscow
San_Marino:San_Marino Serbia:Belgrade Slovakia:Bratislava Slovenia:Ljubljana Spain:Madrid Sweden:Stockholm
Switzerland:Bern Ukraine:Kyiv United_Kingdom:London Vatican_City:Vatican_City"""

NORTH_AMERICA = """Antigua_and_Barbuda:Saint_John's Bahamas:Nassau Barbados:Bridgetown Belize:Belmopan Canada:Ottawa
Costa_Rica:San_Jose Cuba:Havana Dominica:Roseau Dominican_Republic:Santo_Domingo El_Salvador:San_Salvador
Grenada:Saint_George's Guatemala:Guatemala_City Haiti:Port-au-Prince Honduras:Tegucigalpa Jamaica:Kingston
Mexico:Mexico_City Nicaragua:Managua Panama:Panama_City Saint_Kitts_and_Nevis:Basseterre Saint_Lucia:Castries
Saint_Vincent_and_the_Grenadines:Kingstown Trinidad_and_Tobago:Port_of_Spain United_States:Washington,_D.C."""

SOUTH_AMERICA = """Argentina:Buenos_Aires Brazil:Brasilia Chile:Santiago Colombia:Bogota Ecuador:Quito Guyana:Georgetown
Paraguay:Asuncion Peru:Lima Suriname:Paramaribo Uruguay:Montevideo Venezuela:Caracas"""

OCEANIA = """Australia:Canberra Fiji:Suva Kiribati:Tarawa Marshall_Islands:Majuro Micronesia:Palikir New_Zealand:Wellington
Palau:Ngerulmud Papua_New_Guinea:Port_Moresby Samoa:Apia Solomon_Islands:Honiara Tonga:Nuku'alofa Tuvalu:Funafuti
Vanuatu:Port_Vila"""

# These lie on two continents by common reckoning; questions on the continent leave them out.
TWO_CONTINENTS = {"Russia", "Turkey", "Egypt", "Kazakhstan", "Azerbaijan", "Georgia", "Armenia", "Cyprus", "Indonesia",
                  "Timor-Leste"}

# Countries whose answer is a sentence of its own.
SPECIAL = {
    "South Africa": "South Africa has three capitals: Pretoria, Cape Town and Bloemfontein.",
    "Bolivia": "The constitutional capital of Bolivia is Sucre; the government sits in La Paz.",
    "Israel": "The capital of Israel is disputed, so I leave that question to others.",
    "Palestine": "The capital of Palestine is disputed, so I leave that question to others.",
    "Nauru": "Nauru has no official capital; its government sits in Yaren.",
}

# Other names that people use, and the name that the answer uses.
ALIASES = {
    "the USA": "the United States", "the US": "the United States", "America": "the United States",
    "USA": "the United States", "the UK": "the United Kingdom", "UK": "the United Kingdom",
    "Great Britain": "the United Kingdom", "England": "England", "Scotland": "Scotland", "Wales": "Wales",
    "Holland": "the Netherlands", "Czechia": "the Czech Republic", "Burma": "Myanmar", "the UAE": "the United Arab Emirates",
}
ALIAS_CAPITAL = {"the United States": "Washington, D.C.", "the United Kingdom": "London", "England": "London",
                 "Scotland": "Edinburgh", "Wales": "Cardiff", "the Netherlands": "Amsterdam",
                 "the Czech Republic": "Prague", "Myanmar": "Naypyidaw", "the United Arab Emirates": "Abu Dhabi"}

WITH_ARTICLE = {"Central African Republic", "Democratic Republic of the Congo", "Gambia", "Republic of the Congo",
                "Comoros", "Seychelles", "Maldives", "Philippines", "United Arab Emirates", "Czech Republic",
                "Netherlands", "United Kingdom", "Bahamas", "Dominican Republic", "United States", "Marshall Islands",
                "Solomon Islands"}

# Places that people ask about and that are no countries, or not any more.
NOT_COUNTRIES = """Atlantis Narnia Texas California Mars Gondor Wakanda Bavaria Siberia Tuscany Florida Ohio Mordor Sicily
Patagonia Scandinavia Africa Europe Asia Antarctica Yugoslavia Prussia Persia Babylon Utopia Hawaii Alaska Quebec
Catalonia Westeros Hyrule Elbonia Ruritania Genovia Latveria Zubrowka Oz Wonderland Neverland Lilliput Jupiter Venus
Pluto Saturn Brooklyn Manhattan Normandy Brittany Bohemia Transylvania Crete Corsica Sardinia Tasmania Ontario
Virginia Nevada Montana Kansas Iowa Oregon Maine Vermont Saxony Andalusia Provence Flanders Lapland""".split()


def _table():
    rows = {}
    for continent, text in (("Africa", AFRICA), ("Asia", ASIA), ("Europe", EUROPE), ("North America", NORTH_AMERICA),
                            ("South America", SOUTH_AMERICA), ("Oceania", OCEANIA)):
        for item in text.split():
            country, capital = item.replace("_", " ").split(":")
            rows[country] = (capital, continent)
    return rows


TABLE = _table()  # country -> (capital, continent)
CAPITALS = {c: v[0] for c, v in TABLE.items()}
CONTINENTS = {c: v[1] for c, v in TABLE.items() if c not in TWO_CONTINENTS}


def named(country: str) -> str:
    """The country inside a sentence: "the Netherlands", "France"."""
    return "the " + country if country in WITH_ARTICLE else country
