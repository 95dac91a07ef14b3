"""Common English words of three to six letters."""

_WORDS = """
able about above acid acorn actor after again age agent air album alive all almond alone amber angel anger
ankle apple april apron arch arena arm army arrow ash atom attic aunt autumn award away axe baby back bacon
badge bag baker ball bamboo banana band bank barn basil basket bath beach bead beam bean bear beard bed bee
bell belt bench berry bike bird black blade blue boat body bold bolt bone book boot bottle bowl box boy
brain branch brave bread brick bridge bright broom brown brush bubble bucket bud bug bus butter button buzz
cabin cable cactus cage cake calm camel camera camp candle candy canoe cap car card carrot cart castle cat
cave chain chair chalk cheese cherry chess circle city class clay clean cliff clock cloud clover coal coast
coat cocoa code coffee coin cold comet cook coral corn cotton cover cow crab crane cream crown cube cup
curve dance dark date dawn day deer desk dew dial diary dice dinner dish dock doctor dog doll door dove
dragon dream dress drum dry duck dust eagle ear early earth east easy echo edge egg eight elbow elm empty
end engine enjoy equal eye fabric face fair family farm fast father feast fern field fig film final finger
fire fish five fix flag flame flax flour flower flute fog foil fold food forest fork fossil four fox frame
fresh frog frost fruit fuel full fun future galaxy game garden gate gem ghost giant gift ginger girl glad
glass globe glove goat gold good goose grape grass gravel great green grid group guitar gulf habit hair half
hammer hand happy harbor hat hawk hazel head heart heavy hedge helmet help herb hero hill hinge honey hood
hope horn horse hotel house human ice idea inch index ink insect iron island ivory ivy jacket jam jar jazz
jelly jewel job joke judge juice jump june jungle jury just kettle key kid kind king kite kitten knee knife
knot koala lace ladder lake lamp lane large laser laugh leaf lemon letter level lift light lily lime linen
lion list little lizard lobby lock log long loud lucky lunch lynx magic magnet major map maple marble march
market mask maze meadow melon metal milk mill mint mirror model monkey moon moss motor mouse mud museum
music nail name navy neck needle nest net never new nickel night nine noise north nose novel number nurse
nut oak oasis ocean olive onion open opera orange orbit orchid otter oven owl oxygen oyster paddle page
paint palace palm panda paper park parrot path pea peach peanut pear pearl pen pencil pepper piano pie pig
pillow pilot pine pink pipe pirate pizza plane planet plant plaza plum pocket poem polar pond pony poppy
potato prism prize public pump pupil puppy purple puzzle quartz queen quest quick quiet quilt quiz rabbit
radio rail rain ranch raven razor ready red reef ribbon rice ring river road robin robot rock rocket roof
room root rope rose ruby rug ruler sail salad salt sand school sea seed seven shade shark sheep shell ship
shoe shop silk silver simple six sky sleep slow small smile smoke snail snow soap sock sofa soil song sonic
soup south space spark spice spoon spring square squid star steam stone storm stream street sugar summer sun
swan sweet swim table tail tea ten tennis tent test ticket tiger tile time tin toast today tomato tool top
torch towel tower town toy track train tree truck tulip tunnel turtle twelve twig two uncle under unit
valley van vase velvet video view vine violet violin vivid voice wagon walk wall walnut warm watch water
wave wax web week west whale wheat wheel white wide wild wind window wing winter wire wise wolf wood wool
world yacht yard year yellow yes yogurt young zebra zero zinc zone zoo
"""
ENGLISH_WORDS: tuple[str, ...] = tuple(word.upper() for word in _WORDS.split())
