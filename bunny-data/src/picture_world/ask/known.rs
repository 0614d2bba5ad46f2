//! What a person knows of a thing, and the words for it.

use super::super::scene::{Object, Scene};
use super::super::vocabulary::{Colour, Combination, Place, Shape, Size, Texture};

/// What the person knows of a thing: its shape and its colour, or less, or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Known {
    pub shape: Option<Shape>,
    pub colour: Option<Colour>,
    pub size: Option<Size>,
    pub texture: Option<Texture>,
    pub place: Option<Place>,
}

impl From<Combination> for Known {
    fn from(one: Combination) -> Self {
        Self {
            shape: Some(one.shape),
            colour: Some(one.colour),
            ..Self::ANY
        }
    }
}

impl From<Shape> for Known {
    fn from(shape: Shape) -> Self {
        Self {
            shape: Some(shape),
            ..Self::ANY
        }
    }
}

impl From<Colour> for Known {
    fn from(colour: Colour) -> Self {
        Self {
            colour: Some(colour),
            ..Self::ANY
        }
    }
}

impl From<Size> for Known {
    fn from(size: Size) -> Self {
        Self {
            size: Some(size),
            ..Self::ANY
        }
    }
}

impl From<Texture> for Known {
    fn from(texture: Texture) -> Self {
        Self {
            texture: Some(texture),
            ..Self::ANY
        }
    }
}

impl From<Place> for Known {
    fn from(place: Place) -> Self {
        Self {
            place: Some(place),
            ..Self::ANY
        }
    }
}

impl Known {
    /// Nothing but that it is a shape.
    pub const ANY: Self = Self {
        shape: None,
        colour: None,
        size: None,
        texture: None,
        place: None,
    };

    /// What a picture shows of a thing: its shape, and its colour where there are colours.
    pub fn of(object: &Object, scene: &Scene) -> Self {
        Self {
            shape: Some(object.shape),
            colour: scene.has_colours().then_some(object.colour),
            ..Self::ANY
        }
    }

    /// Whether a shape of a colour may be what is meant.
    pub fn fits(self, one: Combination) -> bool {
        self.shape.is_none_or(|shape| one.shape == shape)
            && self.colour.is_none_or(|colour| one.colour == colour)
    }

    /// Whether it can be told of everything in a scene if this is what is meant: patterns of small
    /// things cannot be told for sure, and places only away from their borders.
    pub fn is_clear(self, scene: &Scene) -> bool {
        let texture = self.texture.is_none() || {
            let but_its_texture = Self {
                texture: None,
                ..self
            };
            let mut meant = but_its_texture.all(scene);
            meant.all(|object| object.size == Size::Large)
        };
        let place = self.place.is_none_or(|place| {
            let but_its_place = Self {
                place: None,
                ..self
            };
            let mut meant = but_its_place.all(scene);
            meant.all(|object| object.place() == Some(place) || !place.is_near(object.centre))
        });
        texture && place
    }

    /// Whether an object is meant.
    fn means(self, object: &Object) -> bool {
        self.fits(object.combination())
            && self.size.is_none_or(|size| object.size == size)
            && self.texture.is_none_or(|texture| object.texture == texture)
            && self.place.is_none_or(|place| object.place() == Some(place))
    }

    /// Those that it means.
    fn all(self, scene: &Scene) -> impl Iterator<Item = &Object> {
        let objects = scene.objects.iter();
        objects.filter(move |object| self.means(object))
    }

    /// The one it means; `None` where there is none or several.
    pub fn only(self, scene: &Scene) -> Option<&Object> {
        let mut all = self.all(scene);
        all.next().filter(|_| all.next().is_none())
    }

    /// How many it means.
    pub fn count(self, scene: &Scene) -> usize {
        self.all(scene).count()
    }

    /// "red star", "shape", "large striped star", "star at the top left".
    pub fn name(self) -> String {
        self.words(self.shape.map_or("shape", Shape::name))
    }

    /// "red stars", "shapes", "large striped stars".
    pub fn plural(self) -> String {
        self.words(self.shape.map_or("shapes", Shape::plural))
    }

    fn words(self, noun: &str) -> String {
        let words = [
            self.size.map(Size::name),
            self.texture.map(Texture::name),
            self.colour.map(Colour::name),
            Some(noun),
            self.place.map(Place::phrase),
        ];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}
