package paper

import (
	"bytes"
	"cmp"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
)

// The prediction pipeline: what its three stages do. No trained weights come with
// this program, so the model's are random ones of a fixed seed: it takes the time of
// a small convolutional network, and what it predicts means nothing.

const (
	// side is what an image is resized to, as for MobileNet.
	side = 224
	// classes is how many the model tells apart, as ImageNet has.
	classes = 1000
	// best is how many predictions combine keeps.
	best = 5
)

// photo returns a JPEG of 640 by 480 pixels: waves of color, and some noise.
func photo(seed uint64) ([]byte, error) {
	rng := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // not a secret
	img := image.NewRGBA(image.Rect(0, 0, 640, 480))
	for y := range 480 {
		for x := range 640 {
			wave := func(period float64) uint8 {
				return uint8(100 + 100*math.Sin(float64(x)/period)*math.Cos(float64(y)/period) + 20*rng.Float64())
			}
			img.SetRGBA(x, y, color.RGBA{wave(17 + float64(seed%7)), wave(31), wave(53), 255})
		}
	}
	var out bytes.Buffer
	err := jpeg.Encode(&out, img, nil)
	return out.Bytes(), err
}

// resize reads a JPEG and returns it as side by side pixels of three bytes each, by
// bilinear interpolation.
func resize(photo []byte) ([]byte, error) {
	decoded, err := jpeg.Decode(bytes.NewReader(photo))
	if err != nil {
		return nil, fmt.Errorf("resize: %w", err)
	}
	from := decoded.Bounds()
	pixels := make([]byte, 0, side*side*3)
	for y := range side {
		sy := float64(y) * float64(from.Dy()-1) / (side - 1)
		for x := range side {
			sx := float64(x) * float64(from.Dx()-1) / (side - 1)
			x0, y0 := int(sx), int(sy)
			x1, y1 := min(x0+1, from.Dx()-1), min(y0+1, from.Dy()-1)
			fx, fy := sx-float64(x0), sy-float64(y0)
			var sum [3]float64
			for _, corner := range []struct {
				x, y   int
				weight float64
			}{{x0, y0, (1 - fx) * (1 - fy)}, {x1, y0, fx * (1 - fy)}, {x0, y1, (1 - fx) * fy}, {x1, y1, fx * fy}} {
				r, g, b, _ := decoded.At(from.Min.X+corner.x, from.Min.Y+corner.y).RGBA()
				for i, v := range [3]uint32{r, g, b} {
					sum[i] += corner.weight * float64(v>>8)
				}
			}
			for _, v := range sum {
				pixels = append(pixels, byte(v+0.5))
			}
		}
	}
	return pixels, nil
}

// A convolution is a layer of 3 by 3 filters with a stride of 2, and ReLU.
type convolution struct {
	in, out int
	weights []float32 // out × 3 × 3 × in
}

// A network is four convolutions, from 3 channels to 16, 32, 64 and 128, the mean of
// each channel, and a dense layer to the classes: 49 million multiplications for an
// image, about a twelfth of MobileNet's.
type network struct {
	layers []convolution
	dense  []float32 // classes × channels
}

func newNetwork(seed uint64) *network {
	rng := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // not a secret
	random := func(n, fanIn int) []float32 {
		weights := make([]float32, n)
		scale := math.Sqrt(2 / float64(fanIn)) // He et al.: values neither fade nor grow from layer to layer
		for i := range weights {
			weights[i] = float32(rng.NormFloat64() * scale)
		}
		return weights
	}
	n := &network{}
	channels := []int{3, 16, 32, 64, 128}
	for i, in := range channels[:len(channels)-1] {
		out := channels[i+1]
		n.layers = append(n.layers, convolution{in, out, random(out*9*in, 9*in)})
	}
	last := channels[len(channels)-1]
	n.dense = random(classes*last, last)
	return n
}

// logits returns a number for each class.
func (n *network) logits(pixels []byte) ([]float32, error) {
	if len(pixels) != side*side*3 {
		return nil, fmt.Errorf("model: an image of %d bytes, want %d", len(pixels), side*side*3)
	}
	values := make([]float32, len(pixels))
	for i, p := range pixels {
		values[i] = float32(p)/127.5 - 1
	}
	size := side
	for _, layer := range n.layers {
		values = layer.apply(values, size)
		size /= 2
	}
	channels := n.layers[len(n.layers)-1].out
	means := make([]float32, channels)
	for i, v := range values {
		means[i%channels] += v / float32(size*size)
	}
	out := make([]float32, classes)
	for c := range out {
		for i, m := range means {
			out[c] += n.dense[c*channels+i] * m
		}
	}
	return out, nil
}

// apply returns an image of half the size; values are row by row, pixel by pixel.
func (l convolution) apply(values []float32, size int) []float32 {
	half := size / 2
	out := make([]float32, half*half*l.out)
	for y := range half {
		for x := range half {
			at := out[(y*half+x)*l.out:][:l.out]
			for k := range 9 {
				sy, sx := 2*y+k/3-1, 2*x+k%3-1
				if sy < 0 || sx < 0 || sy >= size || sx >= size {
					continue // beyond the border there is nothing
				}
				pixel := values[(sy*size+sx)*l.in:][:l.in]
				for o := range at {
					filter := l.weights[(o*9+k)*l.in:][:l.in]
					var sum float32
					for i, v := range pixel {
						sum += v * filter[i]
					}
					at[o] += sum
				}
			}
			for o, v := range at {
				at[o] = max(v, 0)
			}
		}
	}
	return out
}

// A prediction is a class and how likely it is.
type prediction struct {
	Class string  `json:"class"`
	P     float64 `json:"p"`
}

// combine turns logits into the likeliest classes (softmax), the likeliest first.
func combine(logits []float32) []prediction {
	if len(logits) == 0 {
		return nil
	}
	all := make([]prediction, len(logits))
	var sum float64
	most := slices.Max(logits)
	for i, l := range logits {
		p := math.Exp(float64(l - most)) // 1 at most, so nothing overflows
		all[i] = prediction{"class " + strconv.Itoa(i), p}
		sum += p
	}
	for i := range all {
		all[i].P /= sum
	}
	slices.SortStableFunc(all, func(a, b prediction) int { return cmp.Compare(b.P, a.P) })
	return all[:min(best, len(all))]
}
