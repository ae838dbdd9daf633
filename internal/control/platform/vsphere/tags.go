package vsphere

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/vapi/rest"
	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// tagBatch is how many objects one question about tags is for.
const tagBatch = 2000

// tagger reads tags. It remembers the names of tags and categories. Reading and watching share it.
type tagger struct {
	rest *rest.Client

	turn  turn                 // of who reads
	names map[string][2]string // tag id → category, name
	round int
}

// tagsWithin bounds how long all tags may take: a hundred thousand machines are fifty questions.
const tagsWithin = 5 * time.Minute

// forgetNames is after how many rounds names are read again: a renamed tag keeps its id.
const forgetNames = 10

// tags returns the tags of all machines and hosts: by reference, the category and its tags.
func (v *VSphere) tags(ctx context.Context, c *connection, m *model) (map[string]map[string]string, error) {
	if !c.vcenter || v.set.tagsEvery == 0 {
		return map[string]map[string]string{}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, tagsWithin, fmt.Errorf("no answer within %v", tagsWithin))
	defer cancel()
	t, err := v.tagger(ctx, c)
	if err != nil || t == nil {
		return map[string]map[string]string{}, err
	}
	out, err := t.read(ctx, m)
	if err != nil && rest.IsStatusError(err, http.StatusUnauthorized) { // its session ends on its own
		if err := c.tags.take(ctx); err != nil {
			return nil, fmt.Errorf("tags: %w", err)
		}
		c.tagger = nil
		c.tags.give()
		if t, err = v.tagger(ctx, c); err == nil && t != nil {
			out, err = t.read(ctx, m)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("tags: %w", err)
	}
	return out, nil
}

// tagger logs in to the tag service; nil when the server has none.
func (v *VSphere) tagger(ctx context.Context, c *connection) (*tagger, error) {
	if err := c.tags.take(ctx); err != nil {
		return nil, fmt.Errorf("tags: log in: %w", err)
	}
	defer c.tags.give()
	if c.tagger != nil {
		return c.tagger, nil
	}
	password, err := v.set.Password()
	if err != nil {
		return nil, errLogin{err}
	}
	client := rest.NewClient(c.client)
	if err := client.Login(ctx, url.UserPassword(v.set.User, password)); err != nil {
		if rest.IsStatusError(err, http.StatusNotFound) {
			return nil, nil
		}
		return nil, fmt.Errorf("tags: log in: %w", err)
	}
	c.tagger = &tagger{rest: client, turn: newTurn(), names: map[string][2]string{}}
	return c.tagger, nil
}

func (t *tagger) read(ctx context.Context, m *model) (map[string]map[string]string, error) {
	if err := t.turn.take(ctx); err != nil {
		return nil, err
	}
	defer t.turn.give()
	if t.round++; t.round%forgetNames == 0 {
		clear(t.names)
	}
	var refs []mo.Reference
	for r := range m.vms {
		refs = append(refs, types.ManagedObjectReference{Type: "VirtualMachine", Value: r})
	}
	for r := range m.hosts {
		refs = append(refs, types.ManagedObjectReference{Type: "HostSystem", Value: r})
	}
	out := map[string]map[string]string{}
	manager := tags.NewManager(t.rest)
	for batch := range slices.Chunk(refs, tagBatch) {
		attached, err := manager.ListAttachedTagsOnObjects(ctx, batch)
		if err != nil {
			return nil, err
		}
		for _, a := range attached {
			if len(a.TagIDs) == 0 {
				continue
			}
			own := map[string]string{}
			for _, id := range a.TagIDs {
				category, name, err := t.name(ctx, manager, id)
				if err != nil {
					return nil, err
				}
				own[category] = addTag(own[category], name)
			}
			out[a.ObjectID.Reference().Value] = own
		}
	}
	return out, nil
}

// addTag joins several tags of one category.
func addTag(have, name string) string {
	if have == "" {
		return name
	}
	list := append(strings.Split(have, ","), name)
	slices.Sort(list)
	return strings.Join(list, ",")
}

func (t *tagger) name(ctx context.Context, manager *tags.Manager, id string) (category, name string, err error) {
	if known, ok := t.names[id]; ok {
		return known[0], known[1], nil
	}
	tag, err := manager.GetTag(ctx, id)
	if err != nil {
		return "", "", err
	}
	c, err := manager.GetCategory(ctx, tag.CategoryID)
	if err != nil {
		return "", "", err
	}
	t.names[id] = [2]string{c.Name, tag.Name}
	return c.Name, tag.Name, nil
}
