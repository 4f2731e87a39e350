// Package model is GPT-OSS itself: its configuration turned into a device's spec, the load plan, and the forward pass,
// written once against the device contract. It never touches the network, a file format or a particular device.
package model
