//! From a plan of what has to be in a picture to a scene where everything has its place.

use super::dice::Dice;
use super::palette::{Palette, shade};
use super::scene::{Background, Font, Lettering, Object, Scene};
use super::vocabulary::{Colour, Combination, Place, Size, Texture, World};

/// An object that has to be there; `None` leaves a choice to the dice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub combination: Combination,
    pub size: Option<Size>,
    pub texture: Option<Texture>,
    pub place: Option<Place>,
}

impl From<Combination> for Wanted {
    fn from(combination: Combination) -> Self {
        Self {
            combination,
            size: None,
            texture: None,
            place: None,
        }
    }
}

/// What has to be in a picture.
pub(super) struct Plan<'a> {
    /// Objects that are there.
    pub wanted: Vec<Wanted>,
    /// How many more are there.
    pub extras: usize,
    /// What those may be, of what the world has.
    pub may: &'a dyn Fn(Combination) -> bool,
    /// What is written.
    pub writing: Vec<String>,
}

/// Builds a scene. Objects that were wanted are all in it, at their places; of the extras, those
/// for which there is room.
pub(super) fn compose(plan: &Plan<'_>, world: World, dice: &mut Dice) -> Scene {
    let wide = plan.writing.iter().any(|text| text.len() > 3);
    let (low, high) = if wide { (1.0, 1.34) } else { (0.75, 1.34) };
    let mut room = Room::new(dice.real(low, high));
    let letterings = letterings(plan, &mut room, dice);
    let taken: Vec<Colour> = letterings.iter().map(|one| one.colour).collect();

    let mut wanted = plan.wanted.clone();
    let choices: Vec<Combination> = Combination::all()
        .filter(|one| world.has(*one) && (plan.may)(*one) && !taken.contains(&one.colour))
        .collect();
    let many = wanted.len() + plan.extras + 2 * letterings.len() > 3;
    let mut objects = Vec::new();
    // What has a place or a size of its own comes first, while there is room.
    wanted.sort_by_key(|one| (one.place.is_none(), one.size.is_none()));
    let overlap = if dice.percent(15) { 0.82 } else { 1.06 };
    for one in wanted {
        let object = draw_object(one, many, dice);
        objects.push(room.put(object, one.place, overlap, dice));
    }
    for _ in 0..plan.extras {
        let Some(combination) = draw(choices.iter().copied(), dice) else {
            break;
        };
        let object = draw_object(combination.into(), many, dice);
        objects.extend(room.find(object, None, overlap, dice));
    }
    in_reading_order(&mut objects);
    Scene {
        aspect: room.aspect,
        background: background(dice),
        objects,
        letterings,
        palette: Palette::Named,
    }
}

/// Row by row, each from the left, as a picture is told: what is told next can then be seen, and is
/// no guess at the order.
fn in_reading_order(objects: &mut [Object]) {
    let row = |object: &Object| (object.centre[1] * 3.0) as usize;
    objects.sort_by(|a, b| {
        let across = a.centre[0].total_cmp(&b.centre[0]);
        row(a).cmp(&row(b)).then(across)
    });
}

/// One of several, of which rainbows are more likely than others: a fifth of all that is drawn.
pub(super) fn draw(
    choices: impl Iterator<Item = Combination>,
    dice: &mut Dice,
) -> Option<Combination> {
    let mut choices: Vec<Combination> = choices.collect();
    let is_rainbow = |one: &Combination| one.colour == Colour::Rainbow;
    if dice.percent(12) && choices.iter().any(is_rainbow) {
        choices.retain(is_rainbow);
    }
    dice.any(choices)
}

fn draw_object(wanted: Wanted, many: bool, dice: &mut Dice) -> Object {
    let large = dice.percent(if many { 15 } else { 55 });
    let size = wanted
        .size
        .unwrap_or(if large { Size::Large } else { Size::Small });
    let (low, high) = match size {
        Size::Small => (13.0, 16.0),
        Size::Large => (22.0, 27.0),
    };
    let texture = wanted
        .texture
        .unwrap_or(Texture::ALL[dice.weighted(&[55, 15, 15, 15])]);
    Object {
        shape: wanted.combination.shape,
        colour: wanted.combination.colour,
        shade: shade(dice),
        texture,
        size,
        centre: [0.5, 0.5],
        radius: dice.real(low, high) / 112.0,
        // Up to 11 degrees to either side.
        tilt: dice.real(-0.1, 0.1),
        hue: dice.real(0.0, 1.0),
    }
}

fn letterings(plan: &Plan<'_>, room: &mut Room, dice: &mut Dice) -> Vec<Lettering> {
    let free: Vec<Colour> = Colour::ALL
        .iter()
        .copied()
        .filter(|colour| {
            let mut wanted = plan.wanted.iter().map(|one| one.combination.colour);
            *colour != Colour::Rainbow && wanted.all(|wanted| wanted != *colour)
        })
        .collect();
    let write = |text: &String| {
        let font = *dice.pick(Font::ALL);
        let width = font.width(text);
        // As high as fits, but legible at 112 pixels: 25 of them, or 20 where a word is wide.
        let highest = ((room.width - 0.05) / width).clamp(0.18, 0.36);
        let height = dice.real(highest.min(0.22), highest);
        let half = [width * height / 2.0, 0.56 * height];
        let centre = room.put_box(half, dice);
        Lettering {
            text: text.clone(),
            colour: dice.any(free.iter().copied()).unwrap_or(Colour::Black),
            shade: shade(dice),
            font,
            centre,
            height,
        }
    };
    plan.writing.iter().map(write).collect()
}

fn background(dice: &mut Dice) -> Background {
    let mut tint = || {
        let level = dice.real(112.0, 176.0);
        [0; 3].map(|_| level + dice.real(-14.0, 14.0))
    };
    let (one, other) = (tint(), tint());
    match dice.weighted(&[40, 30, 30]) {
        0 => Background::Plain(one),
        1 => Background::Gradient(one, other, [dice.real(-1.0, 1.0), dice.real(-1.0, 1.0)]),
        _ => Background::Clouds {
            tint: one,
            strength: dice.real(15.0, 50.0),
            across: dice.whole(3, 14) as u32,
            seed: dice.bits(),
        },
    }
}

/// A picture that fills up. Its lengths are fractions of the longer side.
struct Room {
    aspect: f32,
    width: f32,
    height: f32,
    circles: Vec<([f32; 2], f32)>,
    boxes: Vec<([f32; 2], [f32; 2])>,
}

impl Room {
    fn new(aspect: f32) -> Self {
        Self {
            aspect,
            width: aspect.min(1.0),
            height: (1.0 / aspect).min(1.0),
            circles: Vec::new(),
            boxes: Vec::new(),
        }
    }

    /// Puts an object where there is room, or where there is least of others.
    fn put(&mut self, object: Object, place: Option<Place>, gap: f32, dice: &mut Dice) -> Object {
        let mut gap = gap;
        loop {
            if let Some(object) = self.find(object, place, gap, dice) {
                return object;
            }
            // Below 0 anything fits.
            gap -= 0.15;
        }
    }

    /// Looks for a place whose distance to others is at least `gap` of what it takes to touch.
    fn find(
        &mut self,
        object: Object,
        place: Option<Place>,
        gap: f32,
        dice: &mut Dice,
    ) -> Option<Object> {
        const TRIES: usize = 40;
        let within = place.map_or([[0.0, 1.0]; 2], Place::range);
        // At a place near the edge there is less room.
        let reach = |[low, high]: [f32; 2], side: f32| (1.0 - low).min(high) * side;
        let radius = object
            .radius
            .min(reach(within[0], self.width))
            .min(reach(within[1], self.height));
        let range = |within: [f32; 2], side: f32| {
            let low = (within[0] * side).max(radius);
            low..(within[1] * side).min(side - radius).max(low)
        };
        let (across, down) = (range(within[0], self.width), range(within[1], self.height));
        for _ in 0..TRIES {
            let at = [
                dice.real(across.start, across.end),
                dice.real(down.start, down.end),
            ];
            if self.fits(at, radius, gap) {
                self.circles.push((at, radius));
                return Some(Object {
                    centre: [at[0] / self.width, at[1] / self.height],
                    radius,
                    ..object
                });
            }
        }
        None
    }

    fn fits(&self, at: [f32; 2], radius: f32, gap: f32) -> bool {
        let apart = |x: f32, y: f32| (x * x + y * y).sqrt();
        let free_of_circles = self.circles.iter().all(|(centre, other)| {
            apart(at[0] - centre[0], at[1] - centre[1]) >= gap * (radius + other)
        });
        let free_of_boxes = self.boxes.iter().all(|(centre, half)| {
            let out = |axis: usize| ((at[axis] - centre[axis]).abs() - half[axis]).max(0.0);
            apart(out(0), out(1)) >= gap * radius
        });
        free_of_circles && free_of_boxes
    }

    /// Puts a box where it overlaps no other box if it can, and gives its centre as fractions.
    fn put_box(&mut self, half: [f32; 2], dice: &mut Dice) -> [f32; 2] {
        const TRIES: usize = 60;
        let mut at = [0.0; 2];
        for _ in 0..TRIES {
            let sides = [self.width, self.height];
            at = [0, 1].map(|axis: usize| {
                let low = (half[axis] + 0.015).min(sides[axis] / 2.0);
                dice.real(low, sides[axis] - low)
            });
            let free = self.boxes.iter().all(|(centre, other)| {
                (0..2).any(|axis| (at[axis] - centre[axis]).abs() > half[axis] + other[axis])
            });
            if free {
                break;
            }
        }
        self.boxes.push((at, half));
        [at[0] / self.width, at[1] / self.height]
    }
}
