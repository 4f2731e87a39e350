package cuda

func (e *expertOps) rowServes(l *layerWeights) bool { return false }

func (e *expertOps) gateUpFast(q *queue, l *layerWeights, x, acc, h, choice devptr) {}

func (e *expertOps) downFast(q *queue, l *layerWeights, h, choice, planes devptr) {}
