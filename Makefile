# Every target is a task of .ci/tasks.py, which also runs where there is no make: python .ci/tasks.py demo
PYTHON ?= python3

.PHONY: demo test compat coverage lint docs bench faults soak torture fuzz guard figures lock audit clean

demo test compat coverage lint docs bench faults soak torture fuzz guard figures lock audit clean:
	$(PYTHON) .ci/tasks.py $@ $(ARGS)
